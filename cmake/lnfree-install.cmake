# cmake --install: the headers and a CMake package, so that find_package(lnfree) works from any prefix.

include(CMakePackageConfigHelpers)

set(_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/lnfree)
install(DIRECTORY include/lnfree DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS lnfree EXPORT lnfree-targets)
foreach(part lnfree_bf16 lnfree_cuda lnfree_corpus)
  if(TARGET ${part})
    install(TARGETS ${part} EXPORT lnfree-targets)
  endif()
endforeach()
install(EXPORT lnfree-targets NAMESPACE lnfree:: DESTINATION ${_package_dir})

configure_package_config_file(cmake/lnfree-config.cmake.in lnfree-config.cmake INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file(lnfree-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
  ${PROJECT_BINARY_DIR}/lnfree-config.cmake ${PROJECT_BINARY_DIR}/lnfree-config-version.cmake
  cmake/lnfree-dependencies.cmake cmake/FindSentencePiece.cmake cmake/FindoneDNN.cmake cmake/FindxxHash.cmake
  cmake/FindPCRE2.cmake cmake/Findutf8proc.cmake cmake/Findzstd.cmake
  DESTINATION ${_package_dir})
