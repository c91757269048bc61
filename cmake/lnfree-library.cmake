# The targets a user links:
#   lnfree::lnfree  the library (headers; OpenMP, nlohmann-json, Eigen, a BLAS where found)
#   lnfree::bf16    the device CpuBF16 (oneDNN), where that is found
#   lnfree::cuda    the devices Cuda and CudaFp32 (cuBLASLt), for sources in CUDA, where that toolkit is found
#   lnfree::corpus  what turns source files into token shards (SentencePiece, xxHash; PCRE2, utf8proc, zlib and
#                   Zstandard where found)

list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
include(${CMAKE_CURRENT_LIST_DIR}/lnfree-dependencies.cmake)
if(NOT TARGET OpenMP::OpenMP_CXX)
  message(FATAL_ERROR "lnfree needs OpenMP, which ${CMAKE_CXX_COMPILER} does not offer; clang++ has it from libomp-dev")
endif()
if(NOT TARGET nlohmann_json::nlohmann_json)
  message(FATAL_ERROR "lnfree needs nlohmann-json, which was not found; on Debian: apt-get install nlohmann-json3-dev")
endif()
if(NOT TARGET Eigen3::Eigen)
  message(FATAL_ERROR "lnfree needs Eigen 3.4, which was not found; on Debian: apt-get install libeigen3-dev")
endif()

add_library(lnfree INTERFACE)
add_library(lnfree::lnfree ALIAS lnfree)
target_compile_features(lnfree INTERFACE cxx_std_20)
# A square root makes vector code only where it need not set errno.
target_compile_options(lnfree INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-fno-math-errno>)
target_include_directories(lnfree INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(lnfree INTERFACE OpenMP::OpenMP_CXX nlohmann_json::nlohmann_json Eigen3::Eigen
  # A machine that uses an installed package need not have the BLAS of the one that installed it.
  $<TARGET_NAME_IF_EXISTS:lnfree_blas>)

if(TARGET oneDNN::oneDNN)
  add_library(lnfree_bf16 INTERFACE)
  add_library(lnfree::bf16 ALIAS lnfree_bf16)
  set_target_properties(lnfree_bf16 PROPERTIES EXPORT_NAME bf16)
  target_link_libraries(lnfree_bf16 INTERFACE lnfree oneDNN::oneDNN)
endif()

if(TARGET CUDA::cublasLt)
  add_library(lnfree_cuda INTERFACE)
  add_library(lnfree::cuda ALIAS lnfree_cuda)
  set_target_properties(lnfree_cuda PROPERTIES EXPORT_NAME cuda)
  target_link_libraries(lnfree_cuda INTERFACE lnfree CUDA::cudart_static CUDA::cublasLt)
  # The standard as a plain option: CMake before 3.25.2 does not know how to ask nvcc 12 and later for C++20. Constant
  # expressions of the standard library run on the device.
  target_compile_options(lnfree_cuda INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
endif()

if(TARGET SentencePiece::SentencePiece AND TARGET xxHash::xxHash)
  add_library(lnfree_corpus INTERFACE)
  add_library(lnfree::corpus ALIAS lnfree_corpus)
  set_target_properties(lnfree_corpus PROPERTIES EXPORT_NAME corpus)
  target_link_libraries(lnfree_corpus INTERFACE lnfree SentencePiece::SentencePiece xxHash::xxHash
    # What reads tokenizer.json, .gz and .zst.
    $<TARGET_NAME_IF_EXISTS:PCRE2::PCRE2> $<TARGET_NAME_IF_EXISTS:utf8proc::utf8proc>
    $<TARGET_NAME_IF_EXISTS:ZLIB::ZLIB> $<TARGET_NAME_IF_EXISTS:zstd::zstd>)
  target_compile_definitions(lnfree_corpus INTERFACE $<$<TARGET_EXISTS:ZLIB::ZLIB>:LNFREE_WITH_ZLIB=1>)
endif()
