# How this project compiles its own programs and tests; nothing here reaches a user of lnfree::lnfree.

set(options -Wall -Wextra -Wpedantic
  # g++ 12 warns of its own AVX-512 intrinsics, which xxHash uses.
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
    # Checked loops do not become vector code.
    $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed>)
  target_link_options(lnfree_options INTERFACE -fsanitize=address,undefined)
  target_compile_definitions(lnfree_options INTERFACE LNFREE_SANITIZE=1)
endif()
# nvcc takes none of these.
target_compile_options(lnfree_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${options}>"
  $<$<AND:$<BOOL:${LNFREE_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>)
