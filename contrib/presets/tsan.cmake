# cmake -C contrib/presets/tsan.cmake -B build-tsan
set(CMAKE_BUILD_TYPE Debug CACHE STRING "")
set(CONNPIPE_SANITIZE "thread" CACHE STRING "")
set(CONNPIPE_WERROR ON CACHE BOOL "")
