# cmake -C contrib/presets/asan.cmake -B build-asan
set(CMAKE_BUILD_TYPE Debug CACHE STRING "")
set(CONNPIPE_SANITIZE "address,undefined" CACHE STRING "")
set(CONNPIPE_WERROR ON CACHE BOOL "")
