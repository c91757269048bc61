# What a release has besides the sources, built only on request:
#   single_header   single_header/lnfree.hpp, the CPU part of the library in one file
#   docs            docs/html/index.html, the pages of docs/ and what the headers document (Doxygen)
# They need Python, as the tests do.

find_program(LNFREE_RELEASE_PYTHON NAMES python3 python)
find_program(LNFREE_DOXYGEN doxygen)
mark_as_advanced(LNFREE_RELEASE_PYTHON LNFREE_DOXYGEN)
if(NOT LNFREE_RELEASE_PYTHON)
  message(STATUS "lnfree: the targets single_header and docs are left out, since Python was not found")
  return()
endif()

add_custom_target(single_header
  COMMAND ${LNFREE_RELEASE_PYTHON} ${PROJECT_SOURCE_DIR}/cmake/single_header.py
    ${PROJECT_BINARY_DIR}/single_header/lnfree.hpp
  COMMENT "Writing ${PROJECT_BINARY_DIR}/single_header/lnfree.hpp" VERBATIM)

# The public names: of a device only its type, not its primitives.
file(GLOB LNFREE_DOCS_INPUT CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/include/lnfree/* ${PROJECT_SOURCE_DIR}/include/lnfree/device/*.hpp
  ${PROJECT_SOURCE_DIR}/include/lnfree/device/*/device.hpp ${PROJECT_SOURCE_DIR}/docs/*.md)
list(REMOVE_ITEM LNFREE_DOCS_INPUT ${PROJECT_SOURCE_DIR}/include/lnfree/device)
# The pages in the order of the navigation, followed by all other pages.
foreach(page architecture mathematics faq coming-from training adding-an-observer adding-a-norm adding-an-activation change
    install getting-started)
  list(PREPEND LNFREE_DOCS_INPUT ${PROJECT_SOURCE_DIR}/docs/${page}.md)
endforeach()
list(PREPEND LNFREE_DOCS_INPUT ${PROJECT_SOURCE_DIR}/README.md)
list(APPEND LNFREE_DOCS_INPUT ${PROJECT_SOURCE_DIR}/CONTRIBUTING.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md)
list(REMOVE_DUPLICATES LNFREE_DOCS_INPUT)
list(TRANSFORM LNFREE_DOCS_INPUT REPLACE "(.+)" "\"\\1\"")
list(JOIN LNFREE_DOCS_INPUT " " LNFREE_DOCS_INPUT)
set(LNFREE_DOCS_DIR ${PROJECT_BINARY_DIR}/docs)
configure_file(${PROJECT_SOURCE_DIR}/docs/Doxyfile.in ${LNFREE_DOCS_DIR}/Doxyfile @ONLY)
if(LNFREE_DOXYGEN)
  add_custom_target(docs COMMAND ${LNFREE_DOXYGEN} ${LNFREE_DOCS_DIR}/Doxyfile
    COMMENT "Writing ${LNFREE_DOCS_DIR}/html/index.html" VERBATIM)
endif()
