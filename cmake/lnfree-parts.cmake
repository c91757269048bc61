# The parts of lnfree, each a target that users link and a component of find_package:
#   lnfree::cpu     the device Cpu; what lnfree::lnfree is
#   lnfree::eigen   the devices EigenCpu, and what uses them (Eigen)
#   lnfree::bf16    the device CpuBF16 (oneDNN)
#   lnfree::cuda    the devices Cuda, CudaFP8, CudaInt8 and CudaFp32 (cuBLASLt), for CUDA sources
#   lnfree::mpi     several processes that train one model (MPI)
#   lnfree::nccl    the same with one GPU each (cuBLASLt, NCCL), for CUDA sources
#   lnfree::corpus  tools for making token shards (SentencePiece, xxHash; PCRE2, utf8proc, zlib and Zstandard
#   if found) A part exists if its dependencies are found. Included by the project itself and by the installed
#   lnfree-config.cmake, after lnfree-dependencies.cmake: the parts of a package depend on the machine that
#   uses it, not on the one that made it.

# lnfree_part(NAME target...): a part and the targets that it needs; lnfree_NAME_missing lists the missing
# ones.
function(lnfree_part name)
  set(missing)
  foreach(need ${ARGN})
    if(NOT TARGET ${need})
      list(APPEND missing ${need})
    endif()
  endforeach()
  set(lnfree_${name}_missing "${missing}" PARENT_SCOPE)
  set(lnfree_parts ${lnfree_parts} ${name} PARENT_SCOPE)
  if(NOT missing AND NOT TARGET lnfree::${name})
    # Global in the project itself, like lnfree::lnfree.
    get_target_property(imported lnfree::lnfree IMPORTED)
    if(imported)
      add_library(lnfree::${name} INTERFACE IMPORTED)
    else()
      add_library(lnfree::${name} INTERFACE IMPORTED GLOBAL)
    endif()
    target_link_libraries(lnfree::${name} INTERFACE lnfree::lnfree ${ARGN})
  endif()
endfunction()

set(lnfree_parts)
lnfree_part(cpu OpenMP::OpenMP_CXX)
lnfree_part(eigen Eigen3::Eigen)
lnfree_part(bf16 oneDNN::oneDNN)
lnfree_part(cuda CUDA::cudart_static CUDA::cublasLt)
lnfree_part(mpi MPI::MPI_CXX)
lnfree_part(nccl CUDA::cudart_static CUDA::cublasLt NCCL::NCCL)
lnfree_part(corpus SentencePiece::SentencePiece xxHash::xxHash)
if(TARGET lnfree::corpus)
  # For reading tokenizer.json, .gz and .zst.
  foreach(reader PCRE2::PCRE2 utf8proc::utf8proc ZLIB::ZLIB zstd::zstd)
    if(TARGET ${reader})
      target_link_libraries(lnfree::corpus INTERFACE ${reader})
    endif()
  endforeach()
  if(TARGET ZLIB::ZLIB)
    target_compile_definitions(lnfree::corpus INTERFACE LNFREE_WITH_ZLIB=1)
  endif()
endif()
if(TARGET lnfree::cuda)
  # The standard is a plain option, because CMake before 3.25.2 cannot select C++20 for nvcc 12 and later. The
  # second option allows constexpr functions of the standard library on the device.
  set_target_properties(lnfree::cuda PROPERTIES INTERFACE_COMPILE_OPTIONS
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
endif()
if(TARGET lnfree::nccl)
  target_link_libraries(lnfree::nccl INTERFACE lnfree::cuda)
endif()
