#include "lnfree/core/files.hpp"

#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <string>

#include "lnfree/core/json.hpp"
#include "lnfree/core/new_folder.hpp"

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::FileReader;
namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(files)

BOOST_AUTO_TEST_CASE(what_is_at_a_path) {
  TemporaryFolder folder;
  const auto file = folder.write("file", "text");
  fs::create_symlink("file", folder / "link");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  BOOST_TEST((lnfree::is_file(file) && lnfree::is_file(folder / "link") && !lnfree::is_folder(file)));
  BOOST_TEST((lnfree::is_folder(folder.path()) && !lnfree::is_file(folder.path())));
  for (const char* nothing : {"none", "dangling", "file/below", "none/below"})
    BOOST_TEST(!lnfree::path_exists(folder / nothing));
  for (const char* loop : {"loop", "loop/below"})
    BOOST_CHECK_EXCEPTION(lnfree::path_exists(folder / loop), Error, contains(loop, "Too many levels"));
  BOOST_CHECK_EXCEPTION(lnfree::is_folder(folder / std::string(300, 'x')), Error,
                        contains("xxx", "too long"));
}

BOOST_AUTO_TEST_CASE(only_regular_files_are_read) {
  TemporaryFolder folder;
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  ::mkfifo((folder / "fifo").c_str(), 0600);
  const auto refuses = [&](const std::string& name, auto... words) {
    BOOST_CHECK_EXCEPTION(lnfree::read_text(folder / name, "a poem"), Error,
                          contains("cannot read", name.substr(0, 50), words...));
    BOOST_CHECK_EXCEPTION(lnfree::read_json_object(folder / name), Error, contains(name.substr(0, 50)));
  };
  refuses("none", "No such file");
  refuses("dangling", "No such file", "a link to nowhere");
  refuses("loop", "Too many levels");
  refuses("", "is not a file", "a poem was expected");
  refuses("fifo", "is not a file", "a poem was expected");
  refuses(std::string(300, 'x'), "too long");
  const std::string text(10'000, 'x');
  BOOST_TEST((lnfree::read_text(folder.write("file", text), "a poem") == text));
  BOOST_TEST((lnfree::read_text("/proc/self/status", "a status").starts_with("Name:")));
  fs::resize_file(folder / "file", (std::uintmax_t{1} << 30) + 1);
  refuses("file", "1073741825 bytes");
  for (const char* damaged : {"", "[]", "{"})
    BOOST_CHECK_EXCEPTION(lnfree::read_json_object(folder.write("j", damaged)), Error,
                          contains("j is damaged", "no JSON object"));
  BOOST_TEST(lnfree::read_json_object(folder.write("j", "{\"a\": 1}"))["a"] == 1);
}

BOOST_AUTO_TEST_CASE(new_folders_are_removed_unless_kept) {
  TemporaryFolder folder;
  folder.write("file", "text");
  {
    const lnfree::NewFolder made(folder / "a/b");
    BOOST_TEST(fs::is_directory(folder / "a/b"));
    BOOST_CHECK_EXCEPTION(lnfree::NewFolder(folder / "file/b"), Error, contains("file/b", "Not a directory"));
    fs::create_symlink("nowhere", folder / "dangling");
    fs::create_symlink("loop", folder / "loop");
    for (const char* name : {"dangling", "dangling/b"})
      BOOST_CHECK_EXCEPTION(lnfree::NewFolder(folder / name), Error, contains(name, "is a link to nothing"));
    BOOST_CHECK_EXCEPTION(lnfree::NewFolder(folder / "loop"), Error, contains("loop", "Too many levels"));
    BOOST_TEST((fs::is_symlink(folder / "dangling") && fs::is_symlink(folder / "loop")));
  }
  BOOST_TEST(!fs::exists(folder / "a"));
  {
    const lnfree::NewFolder made(folder / "a/b");
    folder.write("a/kept", "text");
  }
  BOOST_TEST((fs::exists(folder / "a/kept") && !fs::exists(folder / "a/b")));
  lnfree::NewFolder(folder / "c/d").keep();
  BOOST_TEST(fs::exists(folder / "c/d"));
}

BOOST_AUTO_TEST_SUITE_END()
