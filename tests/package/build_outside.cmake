# Builds and runs program/ in the folder WORK against the sources LNFREE, built in BUILT:
#   subdirectory     with add_subdirectory
#   fetched          with FetchContent
#   build_folder     with find_package from BUILT itself, requesting all PARTS that were built
#   installed        the same from a prefix
#   installed_alone  the same where neither a BLAS, oneDNN, SentencePiece nor CUDA is to be found
#   library_alone    lnfree configured where those are missing, and what only its examples and tests need as well; installed
#                    below a DESTDIR, then moved to a folder with a space in its name, requesting all PARTS
#                    there
#   pkg_config       without CMake, by the flags that pkg-config names for a prefix that was moved
#   refused          nothing is built: what find_package says to versions and components that are not there, and lnfree's own
#                    configuration to packages that are not there; and that the port for vcpkg has lnfree's version

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed: ${command}\n${output}")
  endif()
  message(STATUS "${output}")
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(program ${CMAKE_CURRENT_LIST_DIR}/program)
set(options -G ${GENERATOR} -D CMAKE_BUILD_TYPE=Release -D CMAKE_CXX_FLAGS_RELEASE=-O0
  -D CMAKE_CXX_COMPILER=${COMPILER})
foreach(package BLAS SentencePiece xxHash oneDNN CUDAToolkit MPI)
  list(APPEND absent -D CMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
endforeach()

# Installs, and moves the installed files.
function(install_and_move built)
  set(ENV{DESTDIR} ${WORK}/root)
  run(${CMAKE_COMMAND} --install ${built} --prefix /usr)
  unset(ENV{DESTDIR})
  file(RENAME ${WORK}/root/usr "${WORK}/a prefix")
endfunction()

if(WAY STREQUAL subdirectory)
  list(APPEND options -D LNFREE=${LNFREE})
elseif(WAY STREQUAL fetched)
  list(APPEND options -D LNFREE=${LNFREE} -D FETCH=ON)
elseif(WAY STREQUAL build_folder)
  list(APPEND options -D CMAKE_PREFIX_PATH=${BUILT})
elseif(WAY STREQUAL library_alone)
  run(${CMAKE_COMMAND} -S ${LNFREE} -B ${WORK}/lnfree ${options} ${absent}
    -D CMAKE_DISABLE_FIND_PACKAGE_CLI11=ON -D CMAKE_DISABLE_FIND_PACKAGE_Boost=ON)
  foreach(left_out "examples are left out, since CLI11" "tests are left out, since Boost")
    if(NOT output MATCHES "${left_out}")
      message(FATAL_ERROR "the configuration does not say '${left_out}'")
    endif()
  endforeach()
  install_and_move(${WORK}/lnfree)
  file(REMOVE_RECURSE ${WORK}/lnfree)
  list(APPEND options -D "CMAKE_PREFIX_PATH=${WORK}/a prefix")
elseif(WAY STREQUAL pkg_config)
  install_and_move(${BUILT})
  # Only this prefix, besides the system's.
  set(ENV{PKG_CONFIG_PATH} "${WORK}/a prefix/share/pkgconfig")
  run(${PKG_CONFIG} --modversion lnfree)
  file(STRINGS ${LNFREE}/include/lnfree/version.hpp version REGEX "define LNFREE_VERSION ")
  string(STRIP "${output}" output)
  if(NOT version MATCHES "\"${output}\"")
    message(FATAL_ERROR "lnfree.pc has version ${output}, version.hpp says ${version}")
  endif()
  execute_process(COMMAND ${PKG_CONFIG} --cflags --libs lnfree OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${COMPILER} -Wall -Wextra -Wpedantic -Werror -include ${program}/other.cpp ${program}/main.cpp ${flags} -o ${WORK}/outside)
  run(${WORK}/outside)
  return()
else()
  run(${CMAKE_COMMAND} --install ${BUILT} --prefix ${WORK}/prefix)
  list(APPEND options -D CMAKE_PREFIX_PATH=${WORK}/prefix)
  if(WAY STREQUAL installed)
    list(APPEND options -D SHARED=ON)  # A shared library of the program uses lnfree as well.
  endif()
endif()

if(WAY STREQUAL refused)
  file(READ ${LNFREE}/cmake/packaging/vcpkg/vcpkg.json port)
  string(JSON version GET "${port}" version-semver)
  file(STRINGS ${LNFREE}/include/lnfree/version.hpp found REGEX "define LNFREE_VERSION \"${version}\"")
  if(NOT found)
    message(FATAL_ERROR "vcpkg.json has version ${version}, which is not the one of version.hpp")
  endif()
  # Fails unless what was configured ended with an error that contains the sentence.
  function(require_refusal status output sentence what)
    string(REGEX REPLACE "[ \n]+" " " output "${output}")
    string(FIND "${output}" "${sentence}" place)
    if(status EQUAL 0 OR place EQUAL -1)
      message(FATAL_ERROR "${what} does not say '${sentence}':\n${output}")
    endif()
  endfunction()
  # expect(SENTENCE VERSION COMPONENT...)
  function(expect sentence version)
    string(REPLACE ";" "\\;" components "${ARGN}")
    execute_process(
      COMMAND ${CMAKE_COMMAND} -S ${program} -B ${WORK}/refused ${options} ${absent} -D VERSION=${version}
        -D COMPONENTS=${components}
      RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE output)
    require_refusal("${status}" "${output}" "${sentence}" "find_package(lnfree ${version} COMPONENTS ${ARGN})")
  endfunction()
  file(STRINGS ${LNFREE}/include/lnfree/version.hpp minor REGEX "define LNFREE_VERSION_MINOR")
  string(REGEX REPLACE "[^0-9]" "" minor "${minor}")
  math(EXPR later "${minor} + 1")
  math(EXPR earlier "${minor} - 1")
  expect("requested version \"0.${later}\"" 0.${later})
  expect("requested version \"0.${earlier}\"" 0.${earlier})
  expect("its component corpus needs SentencePiece::SentencePiece and xxHash::xxHash, not found here" 0.${minor} corpus)
  expect("its component cuda needs CUDA::cudart_static and CUDA::cublasLt, not found here; lnfree has no component gpu"
    0.${minor} eigen cuda gpu)
  # lnfree itself, where a package is missing that the programs asked for need.
  foreach(kind_and_package "examples CLI11" "tests Boost" "benchmarks benchmark")
    string(REPLACE " " ";" kind_and_package "${kind_and_package}")
    list(POP_FRONT kind_and_package kind package)
    string(TOUPPER ${kind} wanted)
    set(programs -D LNFREE_BUILD_EXAMPLES=OFF -D LNFREE_BUILD_TESTS=OFF -D LNFREE_BUILD_${wanted}=ON)
    execute_process(
      COMMAND ${CMAKE_COMMAND} -S ${LNFREE} -B ${WORK}/${kind} ${options} ${absent} ${programs}
        -D CMAKE_DISABLE_FIND_PACKAGE_${package}=ON
      RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE output)
    require_refusal("${status}" "${output}"
      "the ${kind} need ${package}, which was not found; run examples/install_dependencies.sh" "lnfree without ${package}")
  endforeach()
  return()
endif()

if(WAY STREQUAL installed_alone)
  list(APPEND options ${absent} -D COMPONENTS=cpu\\;eigen)
else()
  string(REPLACE "," "\\;" components "${PARTS}")
  list(APPEND options -D COMPONENTS=${components})
endif()
run(${CMAKE_COMMAND} -S ${program} -B ${WORK}/build ${options})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/outside)
