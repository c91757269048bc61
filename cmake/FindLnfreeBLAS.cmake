# A BLAS with the C interface (cblas.h). OpenBLAS built on OpenMP comes first: it shares one thread pool with
# lnfree's own loops, where the pthread flavour would fight with them for the cores.
#
# Defines LnfreeBLAS_FOUND and the target LnfreeBLAS::LnfreeBLAS, which sets LNFREE_HAS_BLAS=1.

set(_flavours openblas-openmp openblas openblas-pthread)
list(TRANSFORM _flavours PREPEND "${CMAKE_LIBRARY_ARCHITECTURE}/" OUTPUT_VARIABLE _arch_flavours)

find_library(LnfreeBLAS_LIBRARY NAMES openblas cblas PATH_SUFFIXES ${_arch_flavours} ${_flavours})
get_filename_component(_library_dir "${LnfreeBLAS_LIBRARY}" DIRECTORY)
get_filename_component(_library_flavour "${_library_dir}" NAME)
find_path(LnfreeBLAS_INCLUDE_DIR cblas.h
  PATH_SUFFIXES ${CMAKE_LIBRARY_ARCHITECTURE}/${_library_flavour} ${_library_flavour} ${_arch_flavours} ${_flavours})

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LnfreeBLAS REQUIRED_VARS LnfreeBLAS_LIBRARY LnfreeBLAS_INCLUDE_DIR)
mark_as_advanced(LnfreeBLAS_LIBRARY LnfreeBLAS_INCLUDE_DIR)

if(LnfreeBLAS_FOUND AND NOT TARGET LnfreeBLAS::LnfreeBLAS)
  add_library(LnfreeBLAS::LnfreeBLAS UNKNOWN IMPORTED)
  set_target_properties(LnfreeBLAS::LnfreeBLAS PROPERTIES
    IMPORTED_LOCATION "${LnfreeBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LnfreeBLAS_INCLUDE_DIR}"
    INTERFACE_COMPILE_DEFINITIONS LNFREE_HAS_BLAS=1)
endif()
