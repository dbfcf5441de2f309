/* Runs the kernel's source on the CPU: each lane of a block is a thread, SYNC() is a barrier, blocks run one after another.
   It tests arithmetic and synchronisation, nothing of a GPU.

   As a program: kernel_on_cpu IN OUT; IN holds the number of Priors, as 8 bytes, these, and any number of Regions; OUT gets
   their Results. Where lanes
   wait at different barriers the program exits with 3. As a library: call launch. */

#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_S 300

static _Thread_local int lane;

#define DEVICE static
#define NOINLINE static
#define LANE lane
#if LANES > 1
static void barrier(int line);
#define SYNC() barrier(__LINE__)
#else
#define SYNC() ((void)0)
#endif

#include "fit.cu"

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  _exit(3);
}

#if LANES > 1
/* Two barriers: with one only, where a lane reaches it again before the others have woken from it, the thread sanitizer takes
   that lane's work after the barrier for ordered before theirs. */
static pthread_barrier_t arrival, departure;
static int reached[LANES];

static void barrier(int line) {
  reached[lane] = line;
  pthread_barrier_wait(&arrival);
  for (int k = 0; k < LANES; k++)
    if (reached[k] != line) fail("lanes wait at different barriers");
  pthread_barrier_wait(&departure);
}
#endif

/* Plants a fault that the tests must detect, where the environment variable FAULT asks for it. */
static void plant_fault(void) {
  const char *fault = getenv("FAULT");
  if (fault && !strcmp(fault, "race")) work->partial[0] = 0;
#if LANES > 1
  if (fault && !strcmp(fault, "barrier")) barrier(-lane);
#endif
}

typedef struct {
  int lane, count;
  const Priors *priors;
  const Region *regions;
  Result *results;
  Scratch *scratch;
} LaneArguments;

static void *run(void *pointer) {
  const LaneArguments *arguments = pointer;
  lane = arguments->lane;
  plant_fault();
  for (int k = 0; k < arguments->count; k++) {
    const Region *region = arguments->regions + k;
    const Job job = {arguments->priors + region->psf, region, arguments->results + k, arguments->scratch};
    search_region(job);
    SYNC();
  }
  return NULL;
}

static void *allocate(size_t size) {
  void *memory = malloc(size + 1);
  if (!memory) fail("out of memory");
  return memset(memory, 0xff, size); /* so that unfilled memory reads as NaN */
}

static void run_blocks(int count, const Priors *priors, const Region *regions, Result *results) {
  pthread_t threads[LANES];
  LaneArguments lanes[LANES];
  Scratch *scratch = allocate(sizeof *scratch);
  work = allocate(sizeof *work);
#if LANES > 1
  pthread_barrier_init(&arrival, NULL, LANES);
  pthread_barrier_init(&departure, NULL, LANES);
#endif
  for (int k = 0; k < LANES; k++) {
    lanes[k] = (LaneArguments){k, count, priors, regions, results, scratch};
    if (pthread_create(&threads[k], NULL, run, &lanes[k])) fail("cannot start a thread");
  }
  for (int k = 0; k < LANES; k++) pthread_join(threads[k], NULL);
  free(scratch);
  free(work);
}

/* Like the driver's cuLaunchKernel: arguments holds pointers to the arguments of search_regions. */
void launch(int blocks, void **arguments) {
  run_blocks(blocks, *(const Priors **)arguments[0], *(const Region **)arguments[1], *(Result **)arguments[2]);
}

int main(int words, char **word) {
  if (words != 3) fail("usage: kernel_on_cpu IN OUT");
  alarm(TIMEOUT_S);
  FILE *in = fopen(word[1], "rb"), *out = fopen(word[2], "wb");
  int64_t psfs;
  if (!in || !out || fread(&psfs, sizeof psfs, 1, in) != 1) fail("cannot open IN or OUT, or IN is too short");
  Priors *priors = allocate((size_t)psfs * sizeof *priors);
  if (fread(priors, sizeof *priors, (size_t)psfs, in) != (size_t)psfs) fail("IN is too short");
  const long header = ftell(in);
  fseek(in, 0, SEEK_END);
  const size_t bytes = (size_t)(ftell(in) - header), count = bytes / sizeof(Region);
  fseek(in, header, SEEK_SET);
  Region *regions = allocate(bytes);
  Result *results = allocate(count * sizeof(Result));
  if (fread(regions, 1, bytes, in) != bytes || count * sizeof(Region) != bytes)
    fail("IN: expected whole Regions");
  run_blocks((int)count, priors, regions, results);
  if (fwrite(results, sizeof(Result), count, out) != count || fclose(out)) fail("cannot write OUT");
  return 0;
}
