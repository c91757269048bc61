# Builds and runs program/ in the folder WORK against the sources LNFREE, built in BUILT:
#   subdirectory     with add_subdirectory
#   installed        with find_package from a prefix, which is asked for all PARTS that were built
#   installed_alone  the same where neither a BLAS, oneDNN nor SentencePiece is to be found
#   library_alone    the same, and lnfree configured where what only its examples and tests need is missing as well;
#                    installed below a DESTDIR, then moved to a folder with a space in its name

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
set(options -G ${GENERATOR} -D CMAKE_BUILD_TYPE=Release -D CMAKE_CXX_FLAGS_RELEASE=-O1
  -D CMAKE_CXX_COMPILER=${COMPILER})
if(WAY STREQUAL subdirectory)
  list(APPEND options -D LNFREE=${LNFREE})
else()
  set(absent -D CMAKE_DISABLE_FIND_PACKAGE_BLAS=ON -D CMAKE_DISABLE_FIND_PACKAGE_SentencePiece=ON
    -D CMAKE_DISABLE_FIND_PACKAGE_xxHash=ON -D CMAKE_DISABLE_FIND_PACKAGE_oneDNN=ON)
  if(WAY STREQUAL library_alone)
    run(${CMAKE_COMMAND} -S ${LNFREE} -B ${WORK}/lnfree ${options} ${absent} -D CMAKE_INSTALL_PREFIX=/usr
      -D CMAKE_DISABLE_FIND_PACKAGE_CLI11=ON -D CMAKE_DISABLE_FIND_PACKAGE_Boost=ON)
    foreach(left_out "examples are left out, since CLI11" "tests are left out, since Boost")
      if(NOT output MATCHES "${left_out}")
        message(FATAL_ERROR "the configuration does not say '${left_out}'")
      endif()
    endforeach()
    set(ENV{DESTDIR} ${WORK}/root)
    run(${CMAKE_COMMAND} --install ${WORK}/lnfree)
    unset(ENV{DESTDIR})
    file(REMOVE_RECURSE ${WORK}/lnfree)
    file(RENAME ${WORK}/root/usr "${WORK}/a prefix")
    list(APPEND options -D "CMAKE_PREFIX_PATH=${WORK}/a prefix")
  else()
    run(${CMAKE_COMMAND} --install ${BUILT} --prefix ${WORK}/prefix)
    list(APPEND options -D CMAKE_PREFIX_PATH=${WORK}/prefix)
  endif()
  if(WAY MATCHES "_alone$")
    list(APPEND options ${absent})
    execute_process(
      COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/program -B ${WORK}/refused ${options} -D COMPONENTS=corpus
      RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE output)
    if(status EQUAL 0 OR NOT output MATCHES "its part corpus needs SentencePiece")
      message(FATAL_ERROR "find_package did not say what the part corpus lacks:\n${output}")
    endif()
  else()
    string(REPLACE "," "\\;" components "${PARTS}")
    list(APPEND options -D COMPONENTS=${components})
  endif()
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/program -B ${WORK}/build ${options})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/outside)
