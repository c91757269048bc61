# lnfree from the checkout that contains this port. A registry's port would use vcpkg_from_github instead of
# the first command.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

set(VCPKG_BUILD_TYPE release)  # Headers are the same in every configuration.
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DLNFREE_BUILD_EXAMPLES=OFF
    -DLNFREE_BUILD_TESTS=OFF
    -DLNFREE_BUILD_BENCHMARKS=OFF
    -DLNFREE_CUDA=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/lnfree)
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
