# How this project compiles its own programs and tests; nothing here reaches a user of lnfree::lnfree.

add_library(lnfree_options INTERFACE)
target_compile_options(lnfree_options INTERFACE -Wall -Wextra -Wpedantic
  # g++ 12 warns of its own AVX-512 intrinsics, which xxHash uses.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized>)
if(LNFREE_WERROR)
  target_compile_options(lnfree_options INTERFACE -Werror)
endif()
if(LNFREE_NATIVE)
  target_compile_options(lnfree_options INTERFACE -march=native)
endif()
if(LNFREE_SANITIZE)
  target_compile_options(lnfree_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer
    # Checked loops do not become vector code.
    $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed>)
  target_link_options(lnfree_options INTERFACE -fsanitize=address,undefined)
endif()
