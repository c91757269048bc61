# cmake --install: the headers, a CMake package and a pkg-config file, all of which work from any prefix, even
# after it is moved. The build folder is a CMake package as well: find_package(lnfree) with
# CMAKE_PREFIX_PATH=<build folder>.

include(CMakePackageConfigHelpers)

set(_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/lnfree)
set(_package_built ${PROJECT_BINARY_DIR}/share/cmake/lnfree)
install(DIRECTORY include/lnfree DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS lnfree EXPORT lnfree-targets)
install(EXPORT lnfree-targets NAMESPACE lnfree:: DESTINATION ${_package_dir})
export(EXPORT lnfree-targets NAMESPACE lnfree:: FILE ${_package_built}/lnfree-targets.cmake)

configure_package_config_file(cmake/lnfree-config.cmake.in ${_package_built}/lnfree-config.cmake
  INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file(${_package_built}/lnfree-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
set(_package_files ${_package_built}/lnfree-config.cmake ${_package_built}/lnfree-config-version.cmake)
foreach(file lnfree-dependencies lnfree-parts FindNCCL FindSentencePiece FindoneDNN FindxxHash FindPCRE2 Findutf8proc Findzstd)
  configure_file(cmake/${file}.cmake ${_package_built}/${file}.cmake COPYONLY)
  list(APPEND _package_files ${_package_built}/${file}.cmake)
endforeach()
install(FILES ${_package_files} DESTINATION ${_package_dir})

# lnfree.pc is in <prefix>/share/pkgconfig and gives the prefix relative to its own location.
set(_pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_DATADIR})
  set(LNFREE_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(LNFREE_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  string(REGEX REPLACE "[^/]+" ".." LNFREE_PC_PREFIX ${_pkgconfig_dir})
  set(LNFREE_PC_PREFIX "\${pcfiledir}/${LNFREE_PC_PREFIX}")
  set(LNFREE_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/lnfree.pc.in ${PROJECT_BINARY_DIR}/share/pkgconfig/lnfree.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/share/pkgconfig/lnfree.pc DESTINATION ${_pkgconfig_dir})
