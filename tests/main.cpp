#define BOOST_TEST_MODULE lnfree
#include <boost/test/unit_test.hpp>
