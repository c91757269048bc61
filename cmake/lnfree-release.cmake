# What a release has beside the sources, built by name and in no default build:
#   single_header   single_header/lnfree.hpp, the CPU part of the library in one file
# They need Python, as the tests do.

find_program(LNFREE_RELEASE_PYTHON NAMES python3 python)
mark_as_advanced(LNFREE_RELEASE_PYTHON)
if(NOT LNFREE_RELEASE_PYTHON)
  message(STATUS "lnfree: the target single_header is left out, since Python was not found")
  return()
endif()

add_custom_target(single_header
  COMMAND ${LNFREE_RELEASE_PYTHON} ${PROJECT_SOURCE_DIR}/cmake/single_header.py
    ${PROJECT_BINARY_DIR}/single_header/lnfree.hpp
  COMMENT "Writing ${PROJECT_BINARY_DIR}/single_header/lnfree.hpp" VERBATIM)
