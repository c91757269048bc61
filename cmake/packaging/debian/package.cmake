# cpack -G DEB: liblnfree-dev_<version>-1_all.deb, the headers with their CMake package and pkg-config file.

find_program(LNFREE_GZIP gzip)
find_program(LNFREE_DATE date)
mark_as_advanced(LNFREE_GZIP LNFREE_DATE)
if(NOT LNFREE_GZIP OR NOT LNFREE_DATE)
  return()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME lnfree)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The lnfree authors <lnfree@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "header-only C++20 library that trains decoder-only transformers")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "GPT-style language models, trained with and without normalization on CPUs
and NVIDIA GPUs: the architecture is a C++ template, and the Shannon entropy
of every attention head is measured while a model trains.
.
This package has the headers, and what CMake and pkg-config need to find
them. Other libraries that its parts can use are suggested.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES OFF)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_NAME liblnfree-dev)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4), nlohmann-json3-dev")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "g++ | clang, cmake (>= 3.22) | pkgconf | pkg-config")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS
  "libopenblas-openmp-dev, libdnnl-dev, libsentencepiece-dev, libxxhash-dev, libomp-dev, nvidia-cuda-toolkit")

# Files that Debian requires in /usr/share/doc.
set(documents ${PROJECT_BINARY_DIR}/debian)
file(READ ${PROJECT_SOURCE_DIR}/LICENSE LICENSE_TEXT)
string(REGEX REPLACE "^MIT License\n+Copyright[^\n]*\n+" "" LICENSE_TEXT "${LICENSE_TEXT}")
string(STRIP "${LICENSE_TEXT}" LICENSE_TEXT)
string(REGEX REPLACE "\n\n" "\n.\n" LICENSE_TEXT "${LICENSE_TEXT}")
string(REPLACE "\n" "\n " LICENSE_TEXT " ${LICENSE_TEXT}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/copyright.in ${documents}/copyright @ONLY)
file(STRINGS ${PROJECT_SOURCE_DIR}/CITATION.cff released REGEX "^date-released:")
string(REGEX REPLACE "date-released: *" "" released "${released}")
execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${LNFREE_DATE} -u -R -d "${released}"
  OUTPUT_VARIABLE RELEASE_DATE OUTPUT_STRIP_TRAILING_WHITESPACE)
configure_file(${CMAKE_CURRENT_LIST_DIR}/changelog.in ${PROJECT_BINARY_DIR}/changelog.Debian @ONLY)
execute_process(COMMAND ${LNFREE_GZIP} -9nc ${PROJECT_BINARY_DIR}/changelog.Debian OUTPUT_FILE ${documents}/changelog.Debian.gz)
execute_process(COMMAND ${LNFREE_GZIP} -9nc ${PROJECT_SOURCE_DIR}/CHANGELOG.md OUTPUT_FILE ${documents}/changelog.gz)
set(CPACK_INSTALLED_DIRECTORIES ${documents} usr/share/doc/liblnfree-dev)
include(CPack)
