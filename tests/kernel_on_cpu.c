/* The kernel's source, run on the CPU: each lane of a block is a thread, SYNC() a barrier, one block runs after another. For
   tests of its arithmetic and its synchronisation; it says nothing of a GPU.

   As a program: kernel_on_cpu IN OUT; IN holds a Look and any number of Regions, OUT gets their Answers. A barrier that lanes
   reach from different lines, or some never, ends it with 3. As a library: launch. */

#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONGEST_S 300

static _Thread_local int lane;

#define DEVICE static
#define APART static
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
/* Two, for the sanitizer takes what a lane does after a barrier for ordered before what those do that still wake from it, if
   the lane gets to the same barrier again before they are awake. */
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

/* What a test must see, where the environment asks for it. */
static void plant_fault(void) {
  const char *fault = getenv("FAULT");
  if (fault && !strcmp(fault, "race")) work->partial[0] = 0;
#if LANES > 1
  if (fault && !strcmp(fault, "barrier")) barrier(-lane);
#endif
}

typedef struct {
  int lane, count;
  const Look *look;
  const Region *regions;
  Answer *answers;
  Scratch *scratch;
} Share;

static void *run(void *given) {
  const Share *share = given;
  lane = share->lane;
  plant_fault();
  for (int k = 0; k < share->count; k++) {
    const Job job = {share->look, share->regions + k, share->answers + k, share->scratch};
    search_region(job);
    SYNC();
  }
  return NULL;
}

static void *room_for(size_t size) {
  void *room = malloc(size + 1);
  if (!room) fail("no memory");
  return memset(room, 0xff, size); /* what is not filled is no number */
}

static void run_blocks(int count, const Look *look, const Region *regions, Answer *answers) {
  pthread_t threads[LANES];
  Share shares[LANES];
  Scratch *scratch = room_for(sizeof *scratch);
  work = room_for(sizeof *work);
#if LANES > 1
  pthread_barrier_init(&arrival, NULL, LANES);
  pthread_barrier_init(&departure, NULL, LANES);
#endif
  for (int k = 0; k < LANES; k++) {
    shares[k] = (Share){k, count, look, regions, answers, scratch};
    if (pthread_create(&threads[k], NULL, run, &shares[k])) fail("cannot start a thread");
  }
  for (int k = 0; k < LANES; k++) pthread_join(threads[k], NULL);
  free(scratch);
  free(work);
}

/* As the driver's cuLaunchKernel: pointers to the arguments of search_each. */
void launch(int blocks, void **arguments) {
  run_blocks(blocks, *(const Look **)arguments[0], *(const Region **)arguments[1], *(Answer **)arguments[2]);
}

int main(int words, char **word) {
  if (words != 3) fail("kernel_on_cpu IN OUT");
  alarm(LONGEST_S);
  FILE *in = fopen(word[1], "rb"), *out = fopen(word[2], "wb");
  Look look;
  if (!in || !out || fread(&look, sizeof look, 1, in) != 1) fail("cannot read or write the files");
  fseek(in, 0, SEEK_END);
  const size_t bytes = (size_t)ftell(in) - sizeof look, count = bytes / sizeof(Region);
  fseek(in, sizeof look, SEEK_SET);
  Region *regions = room_for(bytes);
  Answer *answers = room_for(count * sizeof(Answer));
  if (fread(regions, 1, bytes, in) != bytes || count * sizeof(Region) != bytes) fail("IN holds no whole regions");
  run_blocks((int)count, &look, regions, answers);
  if (fwrite(answers, sizeof(Answer), count, out) != count || fclose(out)) fail("cannot write the answers");
  return 0;
}
