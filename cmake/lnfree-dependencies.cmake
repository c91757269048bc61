# Finds what lnfree stands on. Included by the project itself and by the installed lnfree-config.cmake, so that
# both see the same libraries. LNFREE_BLAS and LNFREE_CUDA say whether those are wanted.

include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(nlohmann_json)
if(LNFREE_BLAS)
  find_package(LnfreeBLAS QUIET)
  if(NOT LnfreeBLAS_FOUND)
    message(STATUS "lnfree: no BLAS with cblas.h found: programs compiled without -march=native will be "
                   "slower. On Debian: apt-get install libopenblas-openmp-dev")
  endif()
endif()
find_package(oneDNN QUIET)
if(LNFREE_CUDA)
  find_package(CUDAToolkit QUIET)
endif()
find_package(SentencePiece QUIET)
find_package(xxHash QUIET)
