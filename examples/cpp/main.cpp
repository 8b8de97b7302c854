// Depth completion without Python: an exported network with the propagation inside, an image and
// its measurements in, dense depth out. See docs/export.md.
//
// H, W the image. Depth is in metres along the optical axis, 0 = no measurement.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <stdexcept>
#include <string>
#include <vector>

constexpr const char* kUsage =
    "usage: depth_completion MODEL RGB SPARSE DEPTH [SCALE [ERROR]]\n"
    "  MODEL   .onnx of `python -m tools.export`\n"
    "  RGB     colour image of any size from 32x32 up\n"
    "  SPARSE  16-bit PNG of the same size: metres = value / SCALE, 0 = no measurement\n"
    "  DEPTH   16-bit PNG to write, in the same unit; 0 where the depth is not positive\n"
    "  SCALE   units per metre: 1000 for millimetres (default), 256 for KITTI\n"
    "  ERROR   16-bit PNG to write, the expected absolute error, of a network that estimates it\n";
constexpr int kMinSize = 32;

// An exported network. One object serves any number of images, of any sizes.
class Network {
 public:
  // On a GPU: options.AppendExecutionProvider_CUDA({}) before the session is made.
  explicit Network(const std::filesystem::path& path)
      : session_(env_, path.c_str(), Ort::SessionOptions{}) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto encoding =
        session_.GetModelMetadata().LookupCustomMetadataMapAllocated("rgb_encoding", allocator);
    if (!encoding) throw std::runtime_error(path.string() + " does not say its rgb_encoding");
    fillEncoding(std::strncmp(encoding.get(), "released", 8) == 0);
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
      outputs_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
  }

  // `bgr` (H, W) CV_8UC3 and `sparse` (H, W) CV_32F metres -> depth and, of a network that
  // estimates it, its expected error, (H, W) CV_32F metres.
  std::vector<cv::Mat> operator()(const cv::Mat& bgr, const cv::Mat& sparse) {
    const int height = bgr.rows, width = bgr.cols;
    const size_t pixels = static_cast<size_t>(height) * width;
    std::vector<float> rgbd(4 * pixels);
    for (int row = 0; row < height; ++row) {
      for (int column = 0; column < width; ++column) {
        const size_t i = static_cast<size_t>(row) * width + column;
        const auto& colour = bgr.at<cv::Vec3b>(row, column);
        for (int c = 0; c < 3; ++c) rgbd[c * pixels + i] = encoding_[c][colour[2 - c]];
        rgbd[3 * pixels + i] = sparse.at<float>(row, column);
      }
    }
    const int64_t shape[] = {1, 4, height, width};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto input =
        Ort::Value::CreateTensor<float>(memory, rgbd.data(), rgbd.size(), shape, 4);
    const char* const input_name = "rgbd";
    std::vector<const char*> names;
    for (const auto& name : outputs_) names.push_back(name.c_str());
    auto values =
        session_.Run(Ort::RunOptions{}, &input_name, &input, 1, names.data(), names.size());
    std::vector<cv::Mat> maps;
    for (auto& value : values)
      maps.push_back(cv::Mat(height, width, CV_32F, value.GetTensorMutableData<float>()).clone());
    return maps;
  }

 private:
  // The colours as the network was trained on them, for each value of a byte.
  void fillEncoding(bool released) {
    const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
    for (int c = 0; c < 3; ++c) {
      for (int byte = 0; byte < 256; ++byte) {
        float value = (byte / 255.0f - mean[c]) / deviation[c];
        if (released) {
          const int wrapped = static_cast<int>(std::trunc(value * 255.0f)) % 256;
          value = (wrapped + (wrapped < 0 ? 256 : 0)) / 255.0f;
        }
        encoding_[c][byte] = value;
      }
    }
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "depth_completion"};
  Ort::Session session_;
  std::vector<std::string> outputs_;
  float encoding_[3][256];
};

cv::Mat readImage(const std::string& path, int flags) {
  cv::Mat image = cv::imread(path, flags);
  if (image.empty()) throw std::runtime_error(path + " is not an image that can be read");
  return image;
}

// (H, W) CV_32F metres of a 16-bit image; its largest value is no measurement, as in Python.
cv::Mat readDepth(const std::string& path, double scale) {
  cv::Mat stored = readImage(path, cv::IMREAD_UNCHANGED), depth;
  if (stored.type() != CV_16UC1) throw std::runtime_error(path + " must be 16 bits, one channel");
  stored.setTo(0, stored == 65535);
  stored.convertTo(depth, CV_32F);
  return depth / scale;
}

// Rounded, negative depth as 0, what is too far as the largest value.
void writeDepth(const std::string& path, const cv::Mat& depth, double scale) {
  cv::Mat stored;
  depth.convertTo(stored, CV_16U, scale);
  if (!cv::imwrite(path, stored)) throw std::runtime_error(path + " cannot be written");
}

void run(const std::vector<std::string>& arguments) {
  const double scale = arguments.size() > 4 ? std::atof(arguments[4].c_str()) : 1000.0;
  if (!(scale > 0)) throw std::runtime_error("SCALE must be above 0, got " + arguments[4]);
  const cv::Mat bgr = readImage(arguments[1], cv::IMREAD_COLOR);
  const cv::Mat sparse = readDepth(arguments[2], scale);
  if (bgr.size() != sparse.size() || std::min(bgr.rows, bgr.cols) < kMinSize)
    throw std::runtime_error("image and depth must be of one size from 32x32 up");
  Network network(arguments[0]);
  const auto start = std::chrono::steady_clock::now();
  const auto maps = network(bgr, sparse);
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
  for (size_t i = 3; i < arguments.size(); i += 2) {  // DEPTH, ERROR
    if (i / 2 > maps.size()) throw std::runtime_error(arguments[0] + " estimates no error");
    writeDepth(arguments[i], maps[i / 2 - 1], scale);
  }
  std::cout << arguments[3] << ": " << bgr.cols << "x" << bgr.rows << " pixels in "
            << std::lround(spent.count()) << " ms\n";
}

int main(int count, char** values) {
  const std::vector<std::string> arguments(values + 1, values + count);
  if (arguments.size() < 4 || arguments.size() > 6) return std::cerr << kUsage, 2;
  try {
    run(arguments);
  } catch (const std::exception& error) {
    return std::cerr << "error: " << error.what() << "\n", 2;
  }
}
