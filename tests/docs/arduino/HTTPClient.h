// The ESP32 core's HTTPClient as far as docs/iot.md's sketch uses it, over plain sockets of a computer.
#pragma once
#include <netdb.h>
#include <sys/socket.h>

#include "Arduino.h"

class HTTPClient {
 public:
  bool begin(const String& url) {
    const size_t host = url.find("//") + 2, path = url.find('/', host), colon = url.find(':', host);
    host_ = url.substr(host, colon - host);
    port_ = url.substr(colon + 1, path - colon - 1);
    path_ = url.substr(path);
    return true;
  }
  void addHeader(const String& name, const String& value) { headers_ += name + ": " + value + "\r\n"; }
  // The status of the answer, negative where there is none.
  int POST(const String& body) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host_.c_str(), port_.c_str(), &hints, &found) != 0) return -1;
    socket_ = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    const bool is_connected = connect(socket_, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    if (!is_connected) return -1;
    const std::string request = "POST " + path_ + " HTTP/1.1\r\nHost: " + host_ + ":" + port_ +
                                "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
                                headers_ + "\r\n" + body;
    if (send(socket_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return -2;
    std::string answer;
    char part[1024];
    for (ssize_t size; (size = recv(socket_, part, sizeof part, 0)) > 0;) answer.append(part, size);
    return answer.rfind("HTTP/1.1 ", 0) == 0 ? std::atoi(answer.c_str() + 9) : -3;
  }
  void end() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

 private:
  std::string host_, port_, path_, headers_;
  int socket_ = -1;
};
