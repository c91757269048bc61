#include "lnfree/core/atomic_file.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/temporary_folder.hpp"

using lnfree::AtomicFile;
using lnfree::Error;
using lnfree::write_file;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Both ends of a pipe, closed at the end.
struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() { BOOST_REQUIRE(::pipe(ends) == 0); }
  ~Pipe() {
    for (const int end : ends) ::close(end);
  }
  std::string name(int end) const { return "/dev/fd/" + std::to_string(ends[end]); }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(atomic_files)

BOOST_AUTO_TEST_CASE(appears_when_complete_with_the_permissions_it_had) {
  TemporaryFolder folder;
  folder.write("a", "older");
  fs::permissions(folder / "a", fs::perms::owner_read | fs::perms::owner_write);
  {
    AtomicFile file(folder / "a");
    file.write("newer", 5);
    BOOST_TEST(read_file(folder / "a") == "older");
    BOOST_CHECK_EXCEPTION(AtomicFile(folder / "a"), Error, contains("another process"));
    file.commit();
  }
  BOOST_TEST(read_file(folder / "a") == "newer");
  BOOST_CHECK(fs::status(folder / "a").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  {
    AtomicFile(folder / "a").write("lost", 4);
  }
  BOOST_TEST(read_file(folder / "a") == "newer");
  BOOST_TEST(files_in(folder.path()) == std::vector<std::string>{"a"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(links_stay_and_their_targets_are_replaced) {
  TemporaryFolder folder;
  folder.write("far/target", "older");
  fs::create_symlink("far/target", folder / "near");
  fs::create_symlink(folder / "near", folder / "chain");
  fs::create_symlink("far/missing", folder / "dangling");
  fs::create_directory_symlink("far", folder / "linked");
  const auto inode = [&] {
    struct stat status{};
    ::stat((folder / "far/target").c_str(), &status);
    return status.st_ino;
  };
  const auto before = inode();
  write_file(folder / "chain", "newer");
  BOOST_TEST(read_file(folder / "far/target") == "newer");
  BOOST_TEST(inode() != before);  // replaced, not overwritten
  write_file(folder / "dangling", "made");
  BOOST_TEST(read_file(folder / "far/missing") == "made");
  write_file(folder / "linked/target", "newest");
  BOOST_TEST(read_file(folder / "far/target") == "newest");
  for (const char* link : {"near", "chain", "dangling", "linked"}) BOOST_TEST(fs::is_symlink(folder / link));
  BOOST_TEST(files_in(folder / "far") == (std::vector<std::string>{"missing", "target"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_no_file_to_write_says_so) {
  TemporaryFolder folder;
  fs::create_directory(folder / "folder");
  folder.write("file", "older");
  fs::create_symlink("folder", folder / "to_folder");
  fs::create_symlink("loop_b", folder / "loop_a");
  fs::create_symlink("loop_a", folder / "loop_b");
  fs::create_symlink("nowhere/file", folder / "dangling");
  fs::create_symlink("elsewhere", folder / ".guarded.tmp");
  ::mkfifo((folder / ".fifo.tmp").c_str(), 0600);
  const auto refuses = [&](const std::string& name, auto... words) {
    BOOST_CHECK_EXCEPTION(AtomicFile(folder / name), Error, contains(name.substr(0, 50), words...));
  };
  const auto before = files_in(folder.path());
  refuses("folder", "is a folder");
  refuses("to_folder", "is a folder");
  refuses("loop_a", "Too many levels");
  refuses("dangling", "No such file");
  refuses("new/", "names no file");
  refuses("file/x", "Not a directory");
  refuses("guarded", ".guarded.tmp", "is taken");
  refuses("fifo", ".fifo.tmp", "is taken");
  refuses(std::string(300, 'x'), "too long");
  BOOST_CHECK_EXCEPTION(AtomicFile(""), Error, contains("names no file"));
  BOOST_CHECK_EXCEPTION(AtomicFile("/dev/fd/999"), Error, contains("/dev/fd/999", "Bad file descriptor"));
  Pipe pipe;
  BOOST_CHECK_EXCEPTION(AtomicFile(pipe.name(0)), Error, contains("Bad file descriptor"));  // its reading end
  BOOST_TEST(files_in(folder.path()) == before, boost::test_tools::per_element());
  BOOST_TEST(read_file(folder / "file") == "older");
}

// The other file system is /dev/shm, where it is one.
BOOST_AUTO_TEST_CASE(a_new_name_may_be_on_another_file_system) {
  TemporaryFolder folder;
  TemporaryFolder other("/dev/shm");
  for (const char* where : {"same", "other"}) {
    fs::create_symlink((where == std::string("same") ? folder : other) / "target", folder / where);
    const std::string text(200'000, where[0]);
    {
      AtomicFile file(folder / "first");
      file.write(text.data(), text.size());
      file.rename(folder / where);
      file.write("end", 3);
      file.rewind();
      file.write("start", 5);
      file.close();
      BOOST_TEST(!fs::exists(folder / where));
      file.commit();
    }
    BOOST_CHECK(read_file(folder / where) == "start" + text.substr(5) + "end");
    BOOST_TEST(fs::is_symlink(folder / where));
  }
  BOOST_TEST(files_in(folder.path()) == (std::vector<std::string>{"other", "same", "target"}),
             boost::test_tools::per_element());
  BOOST_TEST(files_in(other.path()) == std::vector<std::string>{"target"}, boost::test_tools::per_element());

  fs::create_symlink("/dev/null", folder / "null");
  AtomicFile file(folder / "first");
  BOOST_CHECK_EXCEPTION(file.rename(folder / "null"), Error, contains("null", "is a pipe or device"));
  BOOST_CHECK_EXCEPTION(file.rename(folder.path()), Error, contains("is a folder"));
}

// Through links, so that a bug would not destroy the machine's devices.
BOOST_AUTO_TEST_CASE(fifos_and_devices_are_written_to) {
  TemporaryFolder folder;
  ::mkfifo((folder / "fifo").c_str(), 0600);
  std::string read;
  std::thread reader([&] { read = read_file(folder / "fifo"); });
  const std::string text(200'000, 'x');
  write_file(folder / "fifo", text);
  reader.join();
  BOOST_TEST((read == text));
  BOOST_TEST(fs::is_fifo(folder / "fifo"));

  fs::create_symlink("/dev/null", folder / "null");
  write_file(folder / "null", text);
  BOOST_TEST(fs::is_symlink(folder / "null"));
  BOOST_TEST(fs::is_character_file("/dev/null"));
  fs::create_symlink("/dev/full", folder / "full");
  BOOST_CHECK_EXCEPTION(write_file(folder / "full", text), Error, contains("full", "No space left"));
  BOOST_TEST(files_in(folder.path()) == (std::vector<std::string>{"fifo", "full", "null"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(own_descriptors_are_written_to_where_they_stand) {
  TemporaryFolder folder;
  Pipe pipe;
  write_file(pipe.name(1), "through");
  char text[8] = {};
  BOOST_TEST(::read(pipe.ends[0], text, 7) == 7);
  BOOST_TEST(std::string(text) == "through");

  std::FILE* file = std::fopen(folder.write("log", "").c_str(), "w");
  std::fputs("before ", file);
  std::fflush(file);
  write_file("/proc/self/fd/" + std::to_string(::fileno(file)), "report");
  std::fputs(" after", file);
  std::fclose(file);
  BOOST_TEST(read_file(folder / "log") == "before report after");
}

BOOST_AUTO_TEST_SUITE_END()
