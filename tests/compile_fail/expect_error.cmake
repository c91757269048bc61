# Compiles SOURCE with COMPILER and the headers of INCLUDE, and fails unless that fails with the sentence of the
# source's first line, "// error: SENTENCE".

file(STRINGS ${SOURCE} line LIMIT_COUNT 1)
if(NOT line MATCHES "^// error: (.+)$")
  message(FATAL_ERROR "${SOURCE} begins with no line '// error: SENTENCE'")
endif()
set(sentence ${CMAKE_MATCH_1})

execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -I${INCLUDE} ${SOURCE}
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not")
endif()
string(FIND "${output}" "${sentence}" position)
if(position EQUAL -1)
  message(FATAL_ERROR "${SOURCE} does not compile, but nothing says '${sentence}':\n${output}")
endif()
