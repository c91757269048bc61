# lnfree::lnfree, the target a user links (headers; OpenMP, nlohmann-json, Eigen, a BLAS where found), and its parts.

list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
include(${CMAKE_CURRENT_LIST_DIR}/lnfree-dependencies.cmake)
if(NOT TARGET OpenMP::OpenMP_CXX)
  message(FATAL_ERROR "lnfree needs OpenMP, which ${CMAKE_CXX_COMPILER} does not support; for clang++ install libomp-dev")
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
# Square roots are vectorized only if they need not set errno.
target_compile_options(lnfree INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-fno-math-errno>)
target_include_directories(lnfree INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(lnfree INTERFACE OpenMP::OpenMP_CXX nlohmann_json::nlohmann_json Eigen3::Eigen
  # The machine that uses an installed package may lack the BLAS of the one that installed it.
  $<TARGET_NAME_IF_EXISTS:lnfree_blas>)

include(${CMAKE_CURRENT_LIST_DIR}/lnfree-parts.cmake)
