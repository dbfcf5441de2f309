/* An example sensor: sends frames to irst-stream over ZeroMQ, as irst_stream/io/zeromq/PROTOCOL.md describes them.

   With libzmq and its header installed:
       cc -O2 sensor_client.c -o sensor_client -lzmq -lm
   With the libzmq inside pyzmq's wheel, which brings no header; what is used of it is declared below:
       libs=$(python -c 'import zmq, pathlib; print(pathlib.Path(zmq.__file__).parents[1] / "pyzmq.libs")')
       cc -O2 sensor_client.c -o sensor_client "$libs"/libzmq*.so* -Wl,-rpath,"$libs" -lm
   Then, for a receiver of policy live that binds:
       ./sensor_client --frames 1000 --rate 50 --width 640 --height 512 tcp://127.0.0.1:5555

   Frame k, from 0, shows one spot, which moves, leaves, and comes back on the other side, on a constant background, in DN:
   1000 + 2000 exp(-((column - x)^2 + (row - y)^2) / 2), where x = (W / 4 + 0.3 k) mod W and y = (H / 2 + 0.1 k) mod H. */

#define _POSIX_C_SOURCE 200112L
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __has_include
#if __has_include(<zmq.h>)
#include <zmq.h>
#endif
#endif
#ifndef ZMQ_VERSION /* no header: the part of libzmq's stable ABI that is needed here */
typedef union { unsigned char bytes[64]; void *alignment; } zmq_msg_t;
enum { ZMQ_PUB = 1, ZMQ_PUSH = 8, ZMQ_SNDMORE = 2 };
enum { ZMQ_LINGER = 17, ZMQ_SNDHWM = 23, ZMQ_CURVE_PUBLICKEY = 48, ZMQ_CURVE_SECRETKEY = 49, ZMQ_CURVE_SERVERKEY = 50 };
void *zmq_ctx_new(void);
int zmq_ctx_term(void *context);
void *zmq_socket(void *context, int type);
int zmq_close(void *socket);
int zmq_setsockopt(void *socket, int option, const void *value, size_t length);
int zmq_bind(void *socket, const char *endpoint);
int zmq_connect(void *socket, const char *endpoint);
int zmq_send(void *socket, const void *bytes, size_t length, int flags);
int zmq_msg_init_data(zmq_msg_t *message, void *data, size_t size, void (*release)(void *data, void *hint), void *hint);
int zmq_msg_send(zmq_msg_t *message, void *socket, int flags);
int zmq_errno(void);
const char *zmq_strerror(int error);
#endif

static const char *const USAGE =
    "usage: sensor_client [--bind] [OPTION VALUE]... ENDPOINT\n"
    "  --bind                             wait at the endpoint for others, rather than go to them\n"
    "  --socket pub|push                  pub for receivers of policy live (default), push for lossless\n"
    "  --sensor NAME                      default cam1\n"
    "  --width PX --height PX             default 64 each\n"
    "  --frames N --rate HZ               default 100, at 50 a second; 0 frames: without end\n"
    "  --server-key --public-key --secret-key Z85: CURVE; the public key of the end that binds, and this sensor's pair.\n"
    "    Others on this machine can read a command line: a sensor in the field reads its secret key from a file\n";

struct settings {
    const char *endpoint, *socket, *sensor, *server_key, *public_key, *secret_key;
    int bind;
    long width, height, frames, rate;
};

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("sensor_client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

/* The header: msgpack into a buffer that is large enough. Only what is needed of msgpack; numbers are big-endian there. */

struct buffer { unsigned char bytes[1024]; size_t length; };

static void put(struct buffer *to, int lead, uint64_t value, int width) { /* a byte, then a number of so many bytes */
    to->bytes[to->length++] = (unsigned char)lead;
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) to->bytes[to->length++] = (unsigned char)(value >> shift);
}

static void put_map(struct buffer *to, int entries) { put(to, 0x80 | entries, 0, 0); } /* of up to 15 */
static void put_array(struct buffer *to, int items) { put(to, 0x90 | items, 0, 0); } /* of up to 15 */

static void put_uint(struct buffer *to, uint64_t value) {
    if (value < 0x80) put(to, (int)value, 0, 0);
    else if (value <= UINT32_MAX) put(to, 0xce, value, 4);
    else put(to, 0xcf, value, 8);
}

static void put_double(struct buffer *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(to, 0xcb, bits, 8);
}

static void put_string(struct buffer *to, const char *text) { /* of up to 255 bytes */
    size_t length = strlen(text);
    if (length < 32) put(to, 0xa0 | (int)length, 0, 0);
    else put(to, 0xd9, length, 1);
    memcpy(to->bytes + to->length, text, length);
    to->length += length;
}

/* The CRC32 of zlib, PNG and Ethernet: polynomial 0x04c11db7, bits reflected. */

static uint32_t crc_table[256];

static void make_crc_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        crc_table[byte] = crc;
    }
}

static uint32_t crc32(const void *data, size_t length) {
    uint32_t crc = 0xffffffffu;
    for (const unsigned char *at = data, *end = at + length; at < end; at++) crc = crc >> 8 ^ crc_table[(crc ^ *at) & 0xff];
    return ~crc;
}

static const char *byte_order(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one ? "little" : "big";
}

static uint64_t now_ns(void) { /* since 1970 in UTC */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint16_t *take_image(long width, long height, double x, double y) {
    uint16_t *pixels = malloc((size_t)width * (size_t)height * sizeof *pixels);
    if (!pixels) fail("no memory for a frame of %ld x %ld pixels", width, height);
    for (long row = 0; row < height; row++)
        for (long column = 0; column < width; column++) {
            double squared = pow((double)column - x, 2) + pow((double)row - y, 2);
            double spot = squared < 50 ? 2000 * exp(-squared / 2) : 0;
            pixels[row * width + column] = (uint16_t)lround(1000 + spot);
        }
    return pixels;
}

static void release(void *data, void *hint) { /* called by a thread of libzmq once the pixels have left */
    (void)hint;
    free(data);
}

/* One message of three parts: topic, header, payload. */
static void send_frame(void *socket, const struct settings *s, uint64_t epoch, uint64_t index) {
    double x = fmod((double)s->width / 4 + 0.3 * (double)index, (double)s->width);
    double y = fmod((double)s->height / 2 + 0.1 * (double)index, (double)s->height);
    uint64_t time_ns = now_ns();
    uint16_t *pixels = take_image(s->width, s->height, x, y);
    size_t size = (size_t)s->width * (size_t)s->height * sizeof *pixels;
    char topic[80];
    struct buffer header = {.length = 0};

    snprintf(topic, sizeof topic, "frame/%s/", s->sensor);
    put_map(&header, 13);
    put_string(&header, "protocol"), put_uint(&header, 1);
    put_string(&header, "kind"), put_string(&header, "frame");
    put_string(&header, "sensor"), put_string(&header, s->sensor);
    put_string(&header, "epoch"), put_uint(&header, epoch);
    put_string(&header, "index"), put_uint(&header, index);
    put_string(&header, "time_ns"), put_uint(&header, time_ns);
    put_string(&header, "clock"), put_string(&header, "unix");
    put_string(&header, "dtype"), put_string(&header, "uint16");
    put_string(&header, "byte_order"), put_string(&header, byte_order());
    put_string(&header, "shape"), put_array(&header, 2);
    put_uint(&header, (uint64_t)s->height), put_uint(&header, (uint64_t)s->width);
    put_string(&header, "crc32"), put_uint(&header, crc32(pixels, size));
    put_string(&header, "full_scale"), put_double(&header, 16383);
    put_string(&header, "metadata"), put_map(&header, 1); /* whatever the sensor wants to say; here where the spot is */
    put_string(&header, "spot"), put_array(&header, 2), put_double(&header, x), put_double(&header, y);

    zmq_msg_t payload;
    zmq_msg_init_data(&payload, pixels, size, release, NULL); /* the pixels are libzmq's from here on */
    if (zmq_send(socket, topic, strlen(topic), ZMQ_SNDMORE) < 0 ||
        zmq_send(socket, header.bytes, header.length, ZMQ_SNDMORE) < 0 || zmq_msg_send(&payload, socket, 0) < 0)
        fail("%s: frame %llu: %s", s->endpoint, (unsigned long long)index, zmq_strerror(zmq_errno()));
}

/* Frames leave on schedule, however long sending one takes; one that is late leaves at once. */
static void send_frames(void *socket, const struct settings *s) {
    uint64_t epoch = now_ns(), frames = s->frames ? (uint64_t)s->frames : UINT64_MAX; /* another start, another epoch */
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (uint64_t index = 0; index < frames; index++) {
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        send_frame(socket, s, epoch, index);
        due.tv_nsec += 1000000000 / s->rate;
        for (; due.tv_nsec >= 1000000000; due.tv_nsec -= 1000000000) due.tv_sec++;
    }
}

/* All options are set before bind or connect; most have no effect after it. */
static void *open_socket(void *context, const struct settings *s) {
    void *socket = zmq_socket(context, strcmp(s->socket, "pub") ? ZMQ_PUSH : ZMQ_PUB);
    int high_water = 64, linger_ms = 2000; /* frames that may wait here; how long, at the end */
    if (!socket) fail("no socket: %s", zmq_strerror(zmq_errno()));
    zmq_setsockopt(socket, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    if (s->server_key && (zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, s->server_key, strlen(s->server_key) + 1) ||
                          zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, s->public_key, strlen(s->public_key) + 1) ||
                          zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, s->secret_key, strlen(s->secret_key) + 1)))
        fail("keys: expected 40 characters of Z85 each, and a libzmq with CURVE");
    if (s->bind ? zmq_bind(socket, s->endpoint) : zmq_connect(socket, s->endpoint))
        fail("%s: cannot be %s: %s", s->endpoint, s->bind ? "bound" : "connected to", zmq_strerror(zmq_errno()));
    return socket;
}

static long whole(const char *option, const char *text, long least, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < least || value > most)
        fail("%s: expected a whole number from %ld to %ld, got '%s'", option, least, most, text);
    return value;
}

static void read_option(struct settings *s, const char *option, const char *value) {
    if (!value) fail("%s: expected a value behind it; see --help", option);
    if (!strcmp(option, "--socket")) s->socket = value;
    else if (!strcmp(option, "--sensor")) s->sensor = value;
    else if (!strcmp(option, "--width")) s->width = whole(option, value, 1, 32768);
    else if (!strcmp(option, "--height")) s->height = whole(option, value, 1, 32768);
    else if (!strcmp(option, "--frames")) s->frames = whole(option, value, 0, 1000000000);
    else if (!strcmp(option, "--rate")) s->rate = whole(option, value, 1, 100000);
    else if (!strcmp(option, "--server-key")) s->server_key = value;
    else if (!strcmp(option, "--public-key")) s->public_key = value;
    else if (!strcmp(option, "--secret-key")) s->secret_key = value;
    else fail("%s: no such option; see --help", option);
}

static void check(const struct settings *s) {
    size_t letters = strspn(s->sensor, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-");
    int keys = !!s->server_key + !!s->public_key + !!s->secret_key;
    if (!s->endpoint) fail("expected an endpoint, such as tcp://127.0.0.1:5555; see --help");
    if (strcmp(s->socket, "pub") && strcmp(s->socket, "push")) fail("--socket: expected pub or push, got '%s'", s->socket);
    if (letters < 1 || letters > 64 || s->sensor[letters])
        fail("--sensor: expected 1 to 64 letters, digits or any of _ . : -, got '%s'", s->sensor);
    if (keys % 3) fail("keys: --server-key, --public-key and --secret-key are given together or not at all");
    if (keys && s->bind) fail("--server-key: for an end that connects; this example has no list of clients to let in");
}

int main(int argc, char **argv) {
    struct settings s = {.socket = "pub", .sensor = "cam1", .width = 64, .height = 64, .frames = 100, .rate = 50};
    for (int k = 1; k < argc; k++) {
        if (!strcmp(argv[k], "--help")) return fputs(USAGE, stdout) < 0;
        if (!strcmp(argv[k], "--bind")) s.bind = 1;
        else if (!strncmp(argv[k], "--", 2)) read_option(&s, argv[k], argv[k + 1]), k++; /* argv ends with NULL */
        else if (!s.endpoint) s.endpoint = argv[k];
        else fail("%s: one endpoint is enough; see --help", argv[k]);
    }
    check(&s);
    make_crc_table();
    void *context = zmq_ctx_new(), *socket = open_socket(context, &s);
    send_frames(socket, &s);
    zmq_close(socket);
    zmq_ctx_term(context); /* waits for what has not left yet, at most linger_ms */
    return 0;
}
