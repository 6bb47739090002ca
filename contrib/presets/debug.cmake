# cmake -C contrib/presets/debug.cmake -B build-debug
set(CMAKE_BUILD_TYPE Debug CACHE STRING "")
set(CONNPIPE_WERROR ON CACHE BOOL "")
