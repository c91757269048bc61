# How this project compiles its own programs and tests; nothing here reaches a user of lnfree::lnfree.

# ccache provides what was compiled before, in this folder or another one. The folder's path does not matter,
# but the processor does, since -march=native depends on the machine.
find_program(LNFREE_CCACHE ccache)
mark_as_advanced(LNFREE_CCACHE)
if(LNFREE_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(processor ${CMAKE_SYSTEM_PROCESSOR})
  if(EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo processor REGEX "^(flags|Features)" LIMIT_COUNT 1)
  endif()
  string(MD5 processor "${processor}")
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_NAMESPACE=lnfree-${processor} ${LNFREE_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

set(options -Wall -Wextra -Wpedantic
  # g++ 12 warns about its own AVX-512 intrinsics, which xxHash uses.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>)
if(LNFREE_WERROR)
  list(APPEND options -Werror)
endif()
if(LNFREE_NATIVE)
  list(APPEND options -march=native)
endif()

add_library(lnfree_options INTERFACE)
if(LNFREE_SANITIZE)
  list(APPEND options -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    # Loops with sanitizer checks are not vectorized.
    $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed>)
  target_link_options(lnfree_options INTERFACE -fsanitize=address,undefined)
  target_compile_definitions(lnfree_options INTERFACE LNFREE_SANITIZE=1)
endif()
# nvcc accepts none of these.
target_compile_options(lnfree_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${options}>"
  $<$<AND:$<BOOL:${LNFREE_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>)
