# Builds and runs program/ in the folder WORK against the sources LNFREE, built in BUILT:
#   subdirectory     with add_subdirectory
#   installed        with find_package from a prefix, which is asked for all PARTS that were built
#   installed_alone  the same where neither a BLAS, oneDNN nor SentencePiece is to be found

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed: ${command}\n${output}")
  endif()
  message(STATUS "${output}")
endfunction()

file(REMOVE_RECURSE ${WORK})
set(options -G ${GENERATOR} -D CMAKE_BUILD_TYPE=Release -D CMAKE_CXX_FLAGS_RELEASE=-O1
  -D CMAKE_CXX_COMPILER=${COMPILER})
if(WAY STREQUAL subdirectory)
  list(APPEND options -D LNFREE=${LNFREE})
else()
  run(${CMAKE_COMMAND} --install ${BUILT} --prefix ${WORK}/prefix)
  list(APPEND options -D CMAKE_PREFIX_PATH=${WORK}/prefix)
  if(WAY STREQUAL installed_alone)
    list(APPEND options -D CMAKE_DISABLE_FIND_PACKAGE_LnfreeBLAS=ON -D CMAKE_DISABLE_FIND_PACKAGE_SentencePiece=ON
      -D CMAKE_DISABLE_FIND_PACKAGE_xxHash=ON -D CMAKE_DISABLE_FIND_PACKAGE_oneDNN=ON)
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
