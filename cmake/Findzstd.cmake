# Zstandard, which ships no CMake package in Debian 12. Defines zstd::zstd, which sets LNFREE_WITH_ZSTD for
# its users.

find_library(zstd_LIBRARY zstd)
find_path(zstd_INCLUDE_DIR zstd.h)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(zstd REQUIRED_VARS zstd_LIBRARY zstd_INCLUDE_DIR)
mark_as_advanced(zstd_LIBRARY zstd_INCLUDE_DIR)

if(zstd_FOUND AND NOT TARGET zstd::zstd)
  add_library(zstd::zstd UNKNOWN IMPORTED)
  set_target_properties(zstd::zstd PROPERTIES
    IMPORTED_LOCATION "${zstd_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${zstd_INCLUDE_DIR}"
    INTERFACE_COMPILE_DEFINITIONS LNFREE_WITH_ZSTD=1)
endif()
