# Finds the dependencies of lnfree. Included by the project itself and by the installed lnfree-config.cmake,
# so that both find the same libraries. LNFREE_BLAS and LNFREE_CUDA say whether these are wanted.

include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(nlohmann_json)
# 3.4 or 5; no version of Eigen accepts both as one range.
find_package(Eigen3 5 QUIET)
if(NOT Eigen3_FOUND)
  find_dependency(Eigen3 3.4)
endif()

# lnfree_blas: a BLAS for Eigen's products. OpenBLAS unless BLA_VENDOR names another one, since a BLAS that is
# not optimized for this processor is slower than Eigen alone. Debian's OpenMP flavor shares one thread pool
# with lnfree's own loops.
function(lnfree_find_blas)
  if(NOT BLA_VENDOR)
    set(BLA_VENDOR OpenBLAS)
  endif()
  find_package(BLAS QUIET)
  if(NOT BLAS_FOUND)
    message(STATUS "lnfree: no BLAS found: the products of EigenCpu, and of programs compiled without -march=native, "
                   "will be slower; on Debian: apt-get install libopenblas-openmp-dev")
    return()
  endif()
  add_library(lnfree_blas INTERFACE IMPORTED)
  target_link_libraries(lnfree_blas INTERFACE BLAS::BLAS)
  target_compile_definitions(lnfree_blas INTERFACE EIGEN_USE_BLAS)
endfunction()
if(LNFREE_BLAS AND NOT TARGET lnfree_blas)
  lnfree_find_blas()
endif()

find_package(oneDNN QUIET)
if(LNFREE_CUDA)
  find_package(CUDAToolkit QUIET)
  find_package(NCCL QUIET)
endif()
# Only MPI's C interface; the C++ one is no longer part of it.
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI QUIET COMPONENTS CXX)
find_package(SentencePiece QUIET)
find_package(xxHash QUIET)
find_package(PCRE2 10.40 QUIET)
find_package(utf8proc QUIET)
find_package(ZLIB QUIET)
find_package(zstd QUIET)
