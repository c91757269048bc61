# utf8proc, which ships no CMake package in Debian 12. Defines utf8proc::utf8proc, which sets
# LNFREE_WITH_UTF8PROC for its users.

find_library(utf8proc_LIBRARY utf8proc)
find_path(utf8proc_INCLUDE_DIR utf8proc.h)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(utf8proc REQUIRED_VARS utf8proc_LIBRARY utf8proc_INCLUDE_DIR)
mark_as_advanced(utf8proc_LIBRARY utf8proc_INCLUDE_DIR)

if(utf8proc_FOUND AND NOT TARGET utf8proc::utf8proc)
  add_library(utf8proc::utf8proc UNKNOWN IMPORTED)
  set_target_properties(utf8proc::utf8proc PROPERTIES
    IMPORTED_LOCATION "${utf8proc_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${utf8proc_INCLUDE_DIR}"
    INTERFACE_COMPILE_DEFINITIONS LNFREE_WITH_UTF8PROC=1)
endif()
