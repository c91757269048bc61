# Finds what lnfree stands on. Included by the project itself and by the installed lnfree-config.cmake, so that
# both see the same libraries. LNFREE_BLAS and LNFREE_CUDA say whether those are wanted.

include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(nlohmann_json)
# 3.4 or 5, of which no Eigen takes both as one range.
find_package(Eigen3 5 QUIET)
if(NOT Eigen3_FOUND)
  find_dependency(Eigen3 3.4)
endif()

# lnfree_blas: Eigen's products by a BLAS. OpenBLAS unless BLA_VENDOR names another one: a BLAS that was not made for this
# processor is slower than Eigen alone. Debian's flavour on OpenMP shares one thread pool with lnfree's own loops.
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
# Of MPI its interface in C: that in C++ is no longer part of it.
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI QUIET COMPONENTS CXX)
find_package(SentencePiece QUIET)
find_package(xxHash QUIET)
find_package(PCRE2 10.40 QUIET)
find_package(utf8proc QUIET)
find_package(ZLIB QUIET)
find_package(zstd QUIET)
