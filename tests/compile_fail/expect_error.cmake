# Compiles SOURCE with COMPILER, the headers of INCLUDE and EIGEN and OPTIONS, separated by commas, and fails
# unless that gives the error of the source's first line, "// error: SENTENCE".

file(STRINGS ${SOURCE} line LIMIT_COUNT 1)
if(NOT line MATCHES "^// error: (.+)$")
  message(FATAL_ERROR "${SOURCE} begins with no line '// error: SENTENCE'")
endif()
set(sentence ${CMAKE_MATCH_1})

string(REPLACE "," ";" options "${OPTIONS}")
execute_process(COMMAND ${COMPILER} -std=c++20 -I${INCLUDE} -isystem ${EIGEN} ${options} ${SOURCE}
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not")
endif()
string(FIND "${output}" "${sentence}" position)
if(position EQUAL -1)
  message(FATAL_ERROR "${SOURCE} does not compile, but nothing says '${sentence}':\n${output}")
endif()
