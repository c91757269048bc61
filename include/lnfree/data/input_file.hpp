#pragma once

#ifdef LNFREE_WITH_ZLIB
#include <zlib.h>
#endif
#ifdef LNFREE_WITH_ZSTD
#include <zstd.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace lnfree {

/// A file that is read from start to end, and decompressed if its first bytes are those of gzip or Zstandard.
/// Memory stays small, whatever the file's size.
class InputFile {
 public:
  /// What is wrong with a file, without its name: "cannot be read: Permission denied".
  class Fault : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
  };

  /// Throws Fault if the file cannot be opened, or is compressed in a format that this program was built
  /// without.
  explicit InputFile(const std::filesystem::path& path) : file_(std::fopen(path.c_str(), "rbe")) {
    if (!file_) fail();
    packed_.resize(block_bytes);
    fill();
    const auto starts = [&](std::initializer_list<unsigned char> magic) {
      return size_ >= magic.size() && std::memcmp(packed_.data(), magic.begin(), magic.size()) == 0;
    };
    if (starts({0x1F, 0x8B})) open_gzip();
    if (starts({0x28, 0xB5, 0x2F, 0xFD})) open_zstandard();
  }

  /// Bytes of the file on disk that have been read so far.
  std::int64_t consumed() const { return consumed_ - static_cast<std::int64_t>(size_ - at_); }

  /// Reads up to `size` > 0 decompressed bytes to `out`; returns how many, 0 at the end of the file. Throws
  /// Fault if the file cannot be read or its compressed data are damaged or cut off.
  std::size_t read(char* out, std::size_t size) {
    if (unpacker_) return unpacker_->unpack(*this, out, size);
    if (at_ == size_) fill();
    const std::size_t count = std::min(size, size_ - at_);
    std::memcpy(out, packed_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  struct Unpacker {
    virtual ~Unpacker() = default;
    virtual std::size_t unpack(InputFile& file, char* out, std::size_t size) = 0;
  };

  [[noreturn]] static void fail() { throw Fault(std::string("cannot be read: ") + std::strerror(errno)); }

  [[noreturn]] static void fail_damaged(const char* format, const std::string& how) {
    throw Fault(std::string("cannot be read further: its ") + format + " data " + how);
  }

  // Replaces the used bytes by the next ones of the file, none at its end.
  void fill() {
    at_ = 0;
    size_ = std::fread(packed_.data(), 1, packed_.size(), file_.get());
    if (size_ == 0 && std::ferror(file_.get())) fail();
    consumed_ += static_cast<std::int64_t>(size_);
  }

  [[noreturn]] static void refuse(const char* format, const char* library) {
    throw Fault(std::string("is compressed by ") + format +
                ", which this program cannot read: it was built without " + library + "; unpack it first");
  }

#ifdef LNFREE_WITH_ZLIB
  struct Gzip : Unpacker {
    z_stream stream{};
    bool between = true;  // members

    Gzip() {
      if (::inflateInit2(&stream, 15 + 16) != Z_OK)
        fail_damaged("gzip", "cannot be unpacked: no memory is left");
    }
    Gzip(const Gzip&) = delete;
    ~Gzip() override { ::inflateEnd(&stream); }

    std::size_t unpack(InputFile& file, char* out, std::size_t size) override {
      stream.next_out = reinterpret_cast<Bytef*>(out);
      stream.avail_out = static_cast<uInt>(std::min<std::size_t>(size, 1 << 30));
      const uInt room = stream.avail_out;
      while (stream.avail_out == room) {
        if (file.at_ == file.size_) file.fill();
        if (file.size_ == 0) {
          if (between) return 0;
          fail_damaged("gzip", "end too early");
        }
        between = false;
        stream.next_in = reinterpret_cast<Bytef*>(file.packed_.data() + file.at_);
        stream.avail_in = static_cast<uInt>(file.size_ - file.at_);
        const int status = ::inflate(&stream, Z_NO_FLUSH);
        file.at_ = file.size_ - stream.avail_in;
        if (status == Z_STREAM_END) {
          between = true;
          ::inflateReset(&stream);
        } else if (status != Z_OK && status != Z_BUF_ERROR) {
          fail_damaged("gzip", "are damaged");
        }
      }
      return room - stream.avail_out;
    }
  };
  void open_gzip() { unpacker_ = std::make_unique<Gzip>(); }
#else
  [[noreturn]] static void open_gzip() { refuse("gzip", "zlib"); }
#endif

#ifdef LNFREE_WITH_ZSTD
  struct Zstandard : Unpacker {
    std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream{ZSTD_createDStream(),
                                                                         ZSTD_freeDStream};
    bool between = true;  // frames

    std::size_t unpack(InputFile& file, char* out, std::size_t size) override {
      if (!stream) fail_damaged("Zstandard", "cannot be unpacked: no memory is left");
      ZSTD_outBuffer room{out, size, 0};
      while (room.pos == 0) {
        if (file.at_ == file.size_) file.fill();
        if (file.size_ == 0 && between) return 0;
        ZSTD_inBuffer packed{file.packed_.data(), file.size_, file.at_};
        const std::size_t status = ZSTD_decompressStream(stream.get(), &room, &packed);
        file.at_ = packed.pos;
        if (ZSTD_isError(status))
          fail_damaged("Zstandard", std::string("are damaged: ") + ZSTD_getErrorName(status));
        between = status == 0;
        if (file.size_ == 0 && room.pos == 0 && !between) fail_damaged("Zstandard", "end too early");
      }
      return room.pos;
    }
  };
  void open_zstandard() { unpacker_ = std::make_unique<Zstandard>(); }
#else
  [[noreturn]] static void open_zstandard() { refuse("Zstandard", "libzstd"); }
#endif

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  static constexpr std::size_t block_bytes = 1 << 18;

  std::unique_ptr<std::FILE, Close> file_;
  std::vector<char> packed_;  // as on disk
  std::size_t at_ = 0, size_ = 0;
  std::int64_t consumed_ = 0;
  std::unique_ptr<Unpacker> unpacker_;
};

}  // namespace lnfree
