/* The fit of the imaging model, and the search for how many targets there are, for one region a block: what compiled holds,
   functions by their names, in its order; what they compute and why is said there.

   Whoever compiles this gives MOST (targets), FRAMES, HEIGHT, WIDTH (px), VARIANTS (starts of one number of targets), LANES
   (threads of a block), REAL (double or float) and SINGLE (1 where that is float), and IN_SHARED (1 where the block's Work
   has room in its shared memory). It is CUDA C++ as well as C11: outside CUDA the includer also gives LANE, SYNC(), DEVICE
   and APART, and sets `work`.

   All lanes of a block run the same way through everything here: what decides is read from shared memory by each of them
   after a SYNC(), or computed by each of them alike. Loops over pixels, parameters or entries of a matrix are dealt out:
   for (int i = LANE; i < n; i += LANES). What fills something that others read ends with a SYNC(). */

#ifdef __CUDACC__
#define DEVICE __device__ static
#define APART __device__ static __noinline__
#define LANE ((int)threadIdx.x)
#define BLOCK (blockIdx.x)
#if LANES > 32
#define SYNC() __syncthreads()
#else
#define SYNC() __syncwarp()
#endif
#define ROLLED _Pragma("unroll 1") /* of loops that gain nothing by being unrolled, and take long to compile */
#define UNROLLED _Pragma("unroll") /* of loops whose variables are to lie in registers */
#else
#define ROLLED
#define UNROLLED
#endif

#if SINGLE
#define MATH(name) name##f
#else
#define MATH(name) name
#endif
#define R(number) ((REAL)(number))

#define PARAMETERS 5 /* x, y, vx, vy, a */
#define LARGEST_STEP R(0.3)
#define CONVERGED R(0.1)
#define DAMPING R(1e-2)
#define EASE R(0.1)
#define TIGHTEN R(8.0)
#define HOPELESS R(1e6)
#define PI R(3.14159265358979323846)
#define SQRT_2 R(1.41421356237309504880)
#define SQRT_2PI R(2.50662827463100050242)
#define SQRT_PI_2 R(0.79788456080286535588)
#define LOG_2 R(0.69314718055994530942)
#define LOG_2PI R(1.83787706640934548356)
#define FAR_OUT R(4.3)
#define LEAST_SPREAD R(0.15)
#define SPLIT R(0.25)
#define STEPS 40
#define FIRST_STEPS 6
#define OUT_OF_REACH R(10.0)
#define RULED_OUT R(30.0)
#define NEAR R(20.0)
#define SAME R(0.03)
#define AGREES R(0.15)
#define FAINT R(1e-2)
#define LIT R(0.1)
#define SPREADS 6
#define BEND R(0.24430125595145995)
#define QUARTIC R(1.48)
#define FADE R(25.0)
#define WORTH R(2.5)
#define KEEP R(0.95)
#define FIRM R(10.0)
#define UNKNOWN R(-1e29)
#define NOTHING R(-1e30)
#define ENDLESS R(3e38)

#define ALL (PARAMETERS * MOST)             /* parameters of a full house */
#define TRIANGLE (ALL * (ALL + 1) / 2)      /* entries of a symmetric matrix of these, row by row up to its diagonal */
#define PAIRS (MOST * (MOST + 1) / 2)
#define SIDES (WIDTH + HEIGHT)              /* pixels along x, then along y */
#define TILE_MOST (SINGLE ? 12 : 6)          /* columns whose products a lane holds in its registers */
#define TILE (WIDTH < TILE_MOST ? WIDTH : TILE_MOST)
#define AT(i, j) ((i) * ((i) + 1) / 2 + (j)) /* of such a matrix, i >= j */

/* What is the same for all regions: priors as in compiled.py. */
typedef struct {
  int turns;
  REAL sigma, shot, amplitude_dn, amplitude, common, own, least_spread, greatest_spread, company;
} Look;

/* What is known of one region; times and shifts, along x and y, of its frames; hint, held and odds as in
   compiled.search. */
typedef struct {
  int hinted, begin;
  REAL times[FRAMES], shifts[FRAMES][2], noise, limits[2], hint[MOST][PARAMETERS], held[MOST + 1][MOST][PARAMETERS], odds[MOST + 1];
  REAL images[FRAMES][HEIGHT][WIDTH];
} Region;

/* What is found there: see compiled.search_each. */
typedef struct {
  int number;
  REAL points[MOST][PARAMETERS], cov[MOST][MOST][2][2], amplitude_sd[MOST], probability[MOST], strain[2];
  REAL solutions[MOST + 1][MOST][PARAMETERS], odds[MOST + 1];
} Answer;

typedef struct {
  REAL p[ALL], matrix[TRIANGLE];
} Solution;

/* A block's room in the device's memory. */
typedef struct {
  Solution starts[VARIANTS], best;
} Scratch;

typedef struct {
  const Look *look;
  const Region *region;
  Answer *answer;
  Scratch *scratch;
} Job;

/* A block's room in its shared memory. */
typedef struct {
  struct {
    REAL p[ALL], matrix[TRIANGLE], vector[ALL];
  } points[2]; /* where the fit is, and where it tries to go */
  REAL factor[TRIANGLE + ALL + 1], per_pivot[ALL], solution[ALL], known[ALL];
  REAL share[FRAMES][MOST][SIDES], slope[FRAMES][MOST][SIDES];
  REAL residual[FRAMES][HEIGHT][WIDTH], weight[FRAMES][HEIGHT][WIDTH];
  union { /* each in use for a while only */
    struct {
      REAL erf[FRAMES][MOST][SIDES + 2], density[FRAMES][MOST][SIDES + 2];
    } edges;
    struct {
      REAL matrix[FRAMES][PAIRS][3][3], vector[FRAMES][MOST][3];
    } frames;
    struct {
      REAL rows[FRAMES][HEIGHT][3], frames[FRAMES][6];
    } light;
    REAL columns[3 * MOST][ALL];
  } now;
  REAL partial[LANES];
  REAL misfits[VARIANTS], weights[VARIANTS], agreed[MOST], best_agreed[MOST], logs[MOST + 1], said[MOST + 1];
  int done[VARIANTS], same[VARIANTS];
  unsigned char row_of[TRIANGLE + ALL + 1], column_of[TRIANGLE + ALL + 1];
} Work;

#ifndef __CUDACC__
static Work *work;
#elif IN_SHARED
extern __shared__ double room[];
#define work ((Work *)room)
#else
__shared__ Work *work;
#endif

/* How much room a host has to give to these. */
#ifdef __CUDACC__
extern "C" __constant__
#endif
    const unsigned int sizes[] = {sizeof(Look), sizeof(Region), sizeof(Answer), sizeof(Scratch), sizeof(Work)};

DEVICE REAL least(REAL a, REAL b) { return a < b ? a : b; }

DEVICE REAL most(REAL a, REAL b) { return a > b ? a : b; }

/* The sum of the lanes' values, in a fixed order, for each of them. */
DEVICE REAL sum(REAL value) {
  work->partial[LANE] = value;
  SYNC();
  for (int count = LANES; count > 1;) {
    int half = (count + 1) / 2;
    if (LANE + half < count) work->partial[LANE] += work->partial[LANE + half];
    SYNC();
    count = half;
  }
  value = work->partial[0];
  SYNC();
  return value;
}

DEVICE void copy(const REAL *from, REAL *to, int count) {
  for (int i = LANE; i < count; i += LANES) to[i] = from[i];
}

DEVICE void edge(REAL u, REAL *erf_u, REAL *density) {
  if (u > FAR_OUT) {
    *erf_u = R(1.0), *density = R(0.0);
  } else if (u < -FAR_OUT) {
    *erf_u = R(-1.0), *density = R(0.0);
  } else {
    *erf_u = MATH(erf)(u), *density = MATH(exp)(-u * u);
  }
}

/* The shares and slopes of all targets along both axes of the first frames. */
APART void lines(Job job, const REAL *p, int targets, int frames) {
  const REAL scale = R(1.0) / (SQRT_2 * job.look->sigma), height = R(1.0) / (SQRT_2PI * job.look->sigma);
  for (int i = LANE; i < frames * targets * (SIDES + 2); i += LANES) {
    const int t = i / (targets * (SIDES + 2)), k = i / (SIDES + 2) % targets, s = i % (SIDES + 2);
    const int axis = s > WIDTH, pixel = axis ? s - WIDTH - 1 : s;
    const REAL time = job.region->times[t], shift = job.region->shifts[t][axis];
    const REAL centre = p[PARAMETERS * k + axis] + p[PARAMETERS * k + 2 + axis] * time + shift;
    edge(((REAL)pixel - R(0.5) - centre) * scale, &work->now.edges.erf[t][k][s], &work->now.edges.density[t][k][s]);
  }
  SYNC();
  for (int i = LANE; i < frames * targets * SIDES; i += LANES) {
    const int t = i / (targets * SIDES), k = i / SIDES % targets, s = i % SIDES, left = s < WIDTH ? s : s + 1;
    const REAL *at = work->now.edges.erf[t][k] + left, *density = work->now.edges.density[t][k] + left;
    work->share[t][k][s] = R(0.5) * (at[1] - at[0]);
    work->slope[t][k][s] = height * (density[0] - density[1]);
  }
  SYNC();
}

DEVICE REAL censored(REAL z, REAL *slope) {
  if (z > R(8.0)) {
    *slope = z + R(1.0) / z;
    return z * z + LOG_2PI + R(2.0) * MATH(log)(z) - R(2.0) * LOG_2;
  }
  const REAL beyond = R(0.5) * MATH(erfc)(z / SQRT_2);
  *slope = R(0.5) * SQRT_PI_2 * MATH(exp)(R(-0.5) * z * z) / beyond;
  return R(-2.0) * MATH(log)(R(2.0) * beyond);
}

/* How a pixel's misfit goes with its light: half its slope, and by how much its mean curvature is below 1. */
typedef struct {
  REAL square, sharpness, residual, excess;
} ByLight;

DEVICE ByLight by_light(REAL light, REAL away, REAL slope) {
  const REAL bend = light > R(0.0) ? R(0.5) * slope : R(0.0), sharpness = R(1.0) / (R(1.0) + slope * most(light, R(0.0)));
  const REAL square = away * away * sharpness;
  const ByLight by = {square, sharpness, (away - bend * (square - R(1.0))) * sharpness,
                      R(1.0) - (R(1.0) + bend * slope * sharpness) * sharpness};
  return by;
}

/* Of a pixel at a limit, its misfit as the square. */
DEVICE ByLight at_limit(REAL light, REAL away, REAL slope, REAL side) {
  const REAL sharpness = by_light(light, away, slope).sharpness, scale = side * MATH(sqrt)(sharpness);
  const REAL turn = scale * (R(1.0) - (light > R(0.0) ? R(0.5) * slope * away * sharpness : R(0.0)));
  REAL steep;
  const REAL cost = censored(scale * away, &steep);
  const ByLight by = {cost, R(1.0), steep * turn, R(1.0) - steep * (steep - scale * away) * turn * turn};
  return by;
}

/* What all targets shine into a pixel. */
DEVICE REAL light_at(const REAL *p, int targets, int t, int r, int c) {
  REAL total = R(0.0);
  for (int k = 0; k < targets; k++) total += p[PARAMETERS * k + 4] * work->share[t][k][WIDTH + r] * work->share[t][k][c];
  return total;
}

/* Fills residual and weight, 1 less what a curvature of 1 / noise^2 overrates, of the first frames; gives the misfit. */
APART REAL residuals(const Look *look, const Region *region, const REAL *p, int targets, int frames) {
  const REAL floor = region->limits[0], ceiling = region->limits[1], per = R(1.0) / region->noise, slope = look->shot * per;
  REAL misfit = R(0.0), sharper = R(1.0); /* of many pixels, multiplied: one logarithm does for them */
  for (int i = LANE; i < frames * HEIGHT * WIDTH; i += LANES) {
    const int t = i / (HEIGHT * WIDTH), r = i / WIDTH % HEIGHT, c = i % WIDTH;
    const REAL seen = region->images[t][r][c];
    const REAL total = light_at(p, targets, t, r, c), light = total * per, away = (total - seen) * per;
    ByLight by = {R(0.0), R(1.0), R(0.0), R(0.0)};
    if (seen < UNKNOWN)
      by.excess = R(1.0);
    else if (floor < seen && seen < ceiling)
      by = by_light(light, away, slope);
    else if (!(seen <= floor && away < R(1e-3)))
      by = at_limit(light, away, slope, seen <= floor ? R(1.0) : R(-1.0));
    misfit += by.square;
    sharper *= by.sharpness;
    if (sharper < R(1e-20)) {
      misfit -= MATH(log)(sharper);
      sharper = R(1.0);
    }
    work->residual[t][r][c] = by.residual;
    work->weight[t][r][c] = MATH(fabs)(by.excess) < FAINT ? R(1.0) : R(1.0) - by.excess;
  }
  return sum(misfit - MATH(log)(sharper));
}

/* Adds to the block (3, 3) of one frame's Gauss-Newton matrix that belongs to targets i and j: its products along the columns
   of a tile are held in registers, and go with each row's weights. */
DEVICE void add_tile(int t, int i, int j, int tile, REAL block[3][3]) {
  const REAL *one = work->share[t][i], *one_slope = work->slope[t][i];
  const REAL *other = work->share[t][j], *other_slope = work->slope[t][j];
  REAL product[TILE][4];
  UNROLLED for (int c = 0; c < TILE; c++) {
    const int at = tile + c, within = at < WIDTH;
    const REAL a = within ? one[at] : R(0.0), a_slope = within ? one_slope[at] : R(0.0);
    const REAL b = within ? other[at] : R(0.0), b_slope = within ? other_slope[at] : R(0.0);
    product[c][0] = a * b, product[c][1] = a * b_slope, product[c][2] = a_slope * b, product[c][3] = a_slope * b_slope;
  }
  ROLLED for (int r = 0; r < HEIGHT; r++) {
    REAL ab = R(0.0), as = R(0.0), sb = R(0.0), ss = R(0.0);
    UNROLLED for (int c = 0; c < TILE; c++) {
      const REAL weight = tile + c < WIDTH ? work->weight[t][r][tile + c] : R(0.0);
      ab += weight * product[c][0], as += weight * product[c][1];
      sb += weight * product[c][2], ss += weight * product[c][3];
    }
    const REAL a = one[WIDTH + r], a_slope = one_slope[WIDTH + r], b = other[WIDTH + r], b_slope = other_slope[WIDTH + r];
    block[0][0] += a * b * ss, block[0][1] += a * b_slope * sb, block[0][2] += a * b * sb;
    block[1][0] += a_slope * b * as, block[1][1] += a_slope * b_slope * ab, block[1][2] += a_slope * b * ab;
    block[2][0] += a * b * as, block[2][1] += a * b_slope * ab, block[2][2] += a * b * ab;
  }
}

DEVICE void frame_block(int t, int pair) {
  REAL block[3][3] = {{R(0.0)}};
  for (int tile = 0; tile < WIDTH; tile += TILE) add_tile(t, work->row_of[pair], work->column_of[pair], tile, block);
  UNROLLED for (int u = 0; u < 3; u++)
    UNROLLED for (int v = 0; v < 3; v++) work->now.frames.matrix[t][pair][u][v] = block[u][v];
}

DEVICE void frame_gradient(int t, int target) {
  const REAL *share = work->share[t][target], *slope = work->slope[t][target];
  REAL by_x = R(0.0), by_y = R(0.0), by_a = R(0.0);
  ROLLED for (int r = 0; r < HEIGHT; r++) {
    REAL along = R(0.0), along_slope = R(0.0);
    for (int c = 0; c < WIDTH; c++) {
      along += work->residual[t][r][c] * share[c];
      along_slope += work->residual[t][r][c] * slope[c];
    }
    by_x += share[WIDTH + r] * along_slope;
    by_y += slope[WIDTH + r] * along;
    by_a += share[WIDTH + r] * along;
  }
  REAL *vector = work->now.frames.vector[t][target];
  vector[0] = by_x, vector[1] = by_y, vector[2] = by_a;
}

/* Each frame's Gauss-Newton matrix and gradient by x, y, a of each target, but for the amplitudes and the noise in them. */
APART void frame_equations(int targets) {
  const int blocks = FRAMES * targets * (targets + 1) / 2;
  for (int e = LANE; e < blocks + FRAMES * targets; e += LANES)
    if (e < blocks)
      frame_block(e % FRAMES, e / FRAMES);
    else
      frame_gradient((e - blocks) % FRAMES, (e - blocks) / FRAMES);
  SYNC();
}

/* By which of x, y, a of a frame a parameter is, and what its amplitude and the noise multiply that by. */
DEVICE int kind(int parameter) {
  const int u = parameter % PARAMETERS;
  return u == 4 ? 2 : u % 2;
}

DEVICE REAL height_of(const REAL *p, int parameter, REAL per) {
  return (parameter % PARAMETERS == 4 ? R(1.0) : p[parameter / PARAMETERS * PARAMETERS + 4]) * per;
}

DEVICE int is_velocity(int parameter) { return parameter % PARAMETERS == 2 || parameter % PARAMETERS == 3; }

/* The sum of the frames' equations, by (x, y, vx, vy, a), where d/dv = time d/dx. */
DEVICE void add_frames(Job job, const REAL *p, int targets, REAL *matrix, REAL *vector) {
  const REAL per = R(1.0) / job.region->noise;
  const int n = PARAMETERS * targets;
  for (int e = LANE; e < n * (n + 1) / 2; e += LANES) {
    const int i = work->row_of[e], j = work->column_of[e];
    const int pair = AT(i / PARAMETERS, j / PARAMETERS), u = kind(i), v = kind(j);
    REAL total = R(0.0);
    for (int t = 0; t < FRAMES; t++) {
      const REAL time = job.region->times[t];
      const REAL moves = (is_velocity(i) ? time : R(1.0)) * (is_velocity(j) ? time : R(1.0));
      total += moves * work->now.frames.matrix[t][pair][u][v];
    }
    matrix[e] = height_of(p, i, per) * height_of(p, j, per) * total;
  }
  for (int i = LANE; i < n; i += LANES) {
    REAL total = R(0.0);
    for (int t = 0; t < FRAMES; t++)
      total += (is_velocity(i) ? job.region->times[t] : R(1.0)) * work->now.frames.vector[t][i / PARAMETERS][kind(i)];
    vector[i] = height_of(p, i, per) * total;
  }
}

/* How surely targets keep to their middle, 1/px^2; their places' share of the misfit. */
DEVICE REAL spread(const Look *look, REAL square, int targets, REAL *misfit) {
  const REAL first = MATH(log)(look->least_spread);
  const REAL step = MATH(log)(look->greatest_spread / look->least_spread) / R(SPREADS - 1);
  REAL misfits[SPREADS], lowest = ENDLESS, total = R(0.0), precision = R(0.0);
  for (int i = 0; i < SPREADS; i++) {
    const REAL log = first + (REAL)i * step;
    misfits[i] = square * MATH(exp)(R(-2.0) * log) + R(2.0) * (REAL)(targets - 1) * (LOG_2PI + R(2.0) * log);
    lowest = least(lowest, misfits[i]);
  }
  for (int i = 0; i < SPREADS; i++) {
    const REAL weight = MATH(exp)(R(0.5) * (lowest - misfits[i]));
    total += weight;
    precision += weight * MATH(exp)(R(-2.0) * (first + (REAL)i * step));
  }
  *misfit = lowest - R(2.0) * MATH(log)(total / R(SPREADS));
  return precision / total;
}

/* Adds to what the same lane has filled; gives the priors' share of the misfit. */
DEVICE REAL add_priors(const Look *look, const REAL *p, int targets, REAL *matrix, REAL *vector) {
  const REAL mean = look->amplitude_dn, amplitude = look->amplitude, common = look->common, own = look->own;
  const REAL share = R(1.0) / (REAL)(targets ? targets : 1);
  const int n = PARAMETERS * targets;
  REAL misfit = R(0.0), middle[2], centre[2], square = R(0.0), places = R(0.0);
  for (int axis = 0; axis < 2; axis++) {
    centre[axis] = R(0.0);
    for (int k = 0; k < targets; k++) centre[axis] += p[PARAMETERS * k + axis] * share;
    for (int k = 0; k < targets; k++) {
      const REAL away = p[PARAMETERS * k + axis] - centre[axis];
      square += away * away;
    }
    middle[axis] = R(0.0);
    for (int k = 0; k < targets; k++) middle[axis] += p[PARAMETERS * k + 2 + axis] * share;
    misfit += common * middle[axis] * middle[axis];
    for (int k = 0; k < targets; k++) {
      const REAL away = p[PARAMETERS * k + 2 + axis] - middle[axis];
      misfit += own * away * away;
    }
  }
  for (int k = 0; k < targets; k++) {
    const REAL away = p[PARAMETERS * k + 4] - mean;
    misfit += amplitude * away * away;
  }
  const REAL keeps = targets > 1 ? spread(look, square, targets, &places) : R(0.0);
  misfit += places;
  for (int e = LANE; e < n * (n + 1) / 2; e += LANES) {
    const int i = work->row_of[e], j = work->column_of[e];
    if (i == j && i % PARAMETERS == 4) matrix[e] += amplitude;
    if (i % PARAMETERS < 2 && i % PARAMETERS == j % PARAMETERS) matrix[e] += keeps * ((i == j ? R(1.0) : R(0.0)) - share);
    if (is_velocity(i) && i % PARAMETERS == j % PARAMETERS)
      matrix[e] += own * ((i == j ? R(1.0) : R(0.0)) - share) + common * share * share;
  }
  for (int i = LANE; i < n; i += LANES) {
    if (i % PARAMETERS == 4) vector[i] += amplitude * (p[i] - mean);
    if (i % PARAMETERS < 2) vector[i] += keeps * (p[i] - centre[i % PARAMETERS]);
    if (is_velocity(i)) {
      const REAL at = middle[i % PARAMETERS - 2];
      vector[i] += own * (p[i] - at) + common * at * share;
    }
  }
  return misfit;
}

/* At one of work's points. */
APART REAL normal_equations(Job job, int targets, int at) {
  const REAL *p = work->points[at].p;
  REAL *matrix = work->points[at].matrix, *vector = work->points[at].vector;
  lines(job, p, targets, FRAMES);
  REAL misfit = residuals(job.look, job.region, p, targets, FRAMES);
  frame_equations(targets);
  add_frames(job, p, targets, matrix, vector);
  misfit += add_priors(job.look, p, targets, matrix, vector);
  SYNC();
  return misfit;
}

/* Fills work's factor, L D where the matrix + damping x its diagonal is L D L', and 1 / D; 0 where that is not positive.
   bounded: whether work's known is added to the diagonal. vector, where it is given, becomes one more row of it: L Z = vector. */
APART int cholesky(const REAL *matrix, const REAL *vector, int n, REAL damping, int bounded) {
  const int rows = vector ? n + 1 : n, entries = n * (n + 1) / 2;
  for (int e = LANE; e < rows * (rows + 1) / 2; e += LANES)
    if (e < entries) {
      const int i = work->row_of[e];
      const REAL known = damping * matrix[e] + (bounded ? work->known[i] : R(0.0));
      work->factor[e] = matrix[e] + (i == work->column_of[e] ? known : R(0.0));
    } else {
      work->factor[e] = e < entries + n ? vector[e - entries] : R(0.0);
    }
  SYNC();
  for (int j = 0; j < n; j++) {
    const REAL pivot = work->factor[AT(j, j)], per_pivot = R(1.0) / pivot;
    const int rest = rows - 1 - j;
    if (!(pivot > R(0.0))) {
      SYNC();
      return 0;
    }
    if (LANE == 0) work->per_pivot[j] = per_pivot;
    for (int e = LANE; e < rest * (rest + 1) / 2; e += LANES) {
      const int i = j + 1 + work->row_of[e], k = j + 1 + work->column_of[e];
      work->factor[AT(i, k)] -= work->factor[AT(i, j)] * work->factor[AT(k, j)] * per_pivot;
    }
    SYNC();
  }
  return 1;
}

/* Fills work's solution, by its factor with a vector; the parameters of one target after another's. */
APART void solve(int n) {
  REAL *left = &work->factor[AT(n, 0)], x[PARAMETERS];
  for (int first = n - PARAMETERS; first >= 0; first -= PARAMETERS) {
    UNROLLED for (int u = PARAMETERS - 1; u >= 0; u--) {
      x[u] = left[first + u];
      UNROLLED for (int v = u + 1; v < PARAMETERS; v++) x[u] -= work->factor[AT(first + v, first + u)] * x[v];
      x[u] *= work->per_pivot[first + u];
    }
    if (LANE == 0)
      UNROLLED for (int u = 0; u < PARAMETERS; u++) work->solution[first + u] = x[u];
    for (int j = LANE; j < first; j += LANES)
      UNROLLED for (int v = 0; v < PARAMETERS; v++) left[j] -= work->factor[AT(first + v, j)] * x[v];
    SYNC();
  }
}

typedef struct {
  REAL misfit;
  int done, at;
} End;

/* From work's first point; which of the two it ends at. */
APART End fit(Job job, int targets, int steps) {
  const int n = PARAMETERS * targets;
  REAL damping = DAMPING;
  End end = {normal_equations(job, targets, 0), 0, 0};
  for (int step = 0; step < steps; step++) {
    const int at = end.at, to = 1 - at;
    if (!cholesky(work->points[at].matrix, work->points[at].vector, n, damping, 0)) {
      damping = most(damping, DAMPING) * TIGHTEN;
      continue;
    }
    solve(n);
    for (int i = LANE; i < n; i += LANES) {
      const REAL moved = work->solution[i], held = least(most(moved, -LARGEST_STEP), LARGEST_STEP);
      work->points[to].p[i] = work->points[at].p[i] - (i % PARAMETERS < 4 ? held : moved);
    }
    SYNC();
    const REAL found = normal_equations(job, targets, to);
    if (found < end.misfit) {
      const REAL gained = end.misfit - found;
      end.misfit = found, end.at = to;
      damping *= EASE;
      end.done = gained < CONVERGED;
    } else {
      damping *= TIGHTEN;
      end.done = damping > HOPELESS;
    }
    if (end.done) break;
  }
  return end;
}

typedef struct {
  REAL light, x, y, vx, vy, xx, xy, yy;
} Moments;

APART Moments moments(Job job) {
  const REAL threshold = R(3.0) * job.region->noise;
  for (int i = LANE; i < FRAMES * HEIGHT; i += LANES) {
    const REAL *pixels = job.region->images[i / HEIGHT][i % HEIGHT], shift = job.region->shifts[i / HEIGHT][0];
    REAL *row = work->now.light.rows[i / HEIGHT][i % HEIGHT];
    row[0] = row[1] = row[2] = R(0.0);
    ROLLED for (int c = 0; c < WIDTH; c++) {
      const REAL value = pixels[c] > threshold ? pixels[c] : R(0.0), x = (REAL)c - shift;
      row[0] += value, row[1] += value * x, row[2] += value * x * x;
    }
  }
  SYNC();
  for (int i = LANE; i < FRAMES * 6; i += LANES) { /* 1, x, y, xx, xy, yy */
    const int t = i / 6, which = i % 6, by_x = which == 3 ? 2 : which == 1 || which == 4;
    const int by_y = which == 5 ? 2 : which == 2 || which == 4;
    REAL total = R(0.0);
    ROLLED for (int r = 0; r < HEIGHT; r++) {
      const REAL y = (REAL)r - job.region->shifts[t][1];
      total += work->now.light.rows[t][r][by_x] * (by_y == 2 ? y * y : by_y ? y : R(1.0));
    }
    work->now.light.frames[t][which] = total;
  }
  SYNC();
  REAL mean_time = R(0.0), steps = R(0.0), sums[6] = {R(0.0), R(0.0), R(0.0), R(0.0), R(0.0), R(0.0)};
  Moments found = {R(0.0), R(WIDTH - 1) / 2, R(HEIGHT - 1) / 2, R(0.0), R(0.0), R(0.0), R(0.0), R(0.0)};
  for (int t = 0; t < FRAMES; t++) mean_time += job.region->times[t] / FRAMES;
  for (int t = 0; t < FRAMES; t++) {
    const REAL time = job.region->times[t] - mean_time, flux = work->now.light.frames[t][0];
    if (flux > R(0.0)) {
      found.vx += time * work->now.light.frames[t][1] / flux;
      found.vy += time * work->now.light.frames[t][2] / flux;
    }
    steps += time * time;
    for (int which = 0; which < 6; which++) sums[which] += work->now.light.frames[t][which];
  }
  SYNC();
  found.vx = steps > R(0.0) ? found.vx / steps : R(0.0);
  found.vy = steps > R(0.0) ? found.vy / steps : R(0.0);
  if (sums[0] > R(0.0)) {
    const REAL optics = job.look->sigma * job.look->sigma + R(1.0) / R(12.0);
    found.light = sums[0] / FRAMES, found.x = sums[1] / sums[0], found.y = sums[2] / sums[0];
    found.xx = sums[3] / sums[0] - found.x * found.x - optics;
    found.xy = sums[4] / sums[0] - found.x * found.y;
    found.yy = sums[5] / sums[0] - found.y * found.y - optics;
  }
  return found;
}

DEVICE REAL angle_of(Moments found) { return R(0.5) * MATH(atan2)(R(2.0) * found.xy, found.xx - found.yy); }

APART void start(int targets, REAL turn, int filled, Moments found, REAL amplitude, REAL *p) {
  const REAL half = (found.xx - found.yy) / 2, angle = angle_of(found);
  const REAL root = MATH(sqrt)(half * half + found.xy * found.xy);
  const REAL longer = MATH(sqrt)(most((found.xx + found.yy) / 2 + root, LEAST_SPREAD * LEAST_SPREAD));
  const REAL shorter = MATH(sqrt)(most((found.xx + found.yy) / 2 - root, LEAST_SPREAD * LEAST_SPREAD));
  const int ring = filled ? targets - 1 : targets;
  const REAL stretch = targets > 2 ? MATH(sqrt)(R(2.0) * (REAL)targets / (REAL)ring) : R(1.0);
  for (int k = LANE; k < targets; k += LANES) {
    REAL along = R(0.0), across = R(0.0);
    if (targets > 1 && !(filled && k == ring)) {
      const REAL phase = R(2.0) * PI * ((REAL)k + turn) / (REAL)ring;
      along = stretch * longer * MATH(cos)(phase), across = stretch * shorter * MATH(sin)(phase);
    }
    p[PARAMETERS * k] = found.x + along * MATH(cos)(angle) - across * MATH(sin)(angle);
    p[PARAMETERS * k + 1] = found.y + along * MATH(sin)(angle) + across * MATH(cos)(angle);
    p[PARAMETERS * k + 2] = found.vx, p[PARAMETERS * k + 3] = found.vy, p[PARAMETERS * k + 4] = amplitude;
  }
}

/* Fills work's known: how far each target may part from one that is on top of it, 1 / px^2. */
DEVICE void bound_places(Job job, const REAL *p, int targets) {
  const REAL width = job.look->sigma * job.look->sigma + R(1.0) / R(12.0), bend = BEND / (width * MATH(sqrt)(width));
  const REAL parting = QUARTIC * job.region->noise / (job.look->amplitude_dn * bend * MATH(sqrt)(R(FRAMES)));
  for (int i = LANE; i < PARAMETERS * targets; i += LANES) {
    const REAL *own = p + PARAMETERS * (i / PARAMETERS);
    REAL close = R(0.0);
    for (int j = 0; j < targets && i % PARAMETERS < 2; j++) {
      const REAL x = p[PARAMETERS * j] - own[0], y = p[PARAMETERS * j + 1] - own[1];
      if (j != i / PARAMETERS) close = most(close, MATH(exp)(-(x * x + y * y) / (FADE * parting)));
    }
    work->known[i] = close / parting;
  }
  SYNC();
}

APART REAL evidence(Job job, const Solution *solution, REAL misfit, int targets) {
  const Look *look = job.look;
  const REAL count = (REAL)targets;
  REAL share = R(0.0), numberings = R(0.0);
  bound_places(job, solution->p, targets);
  if (!cholesky(solution->matrix, 0, PARAMETERS * targets, R(0.0), 1)) return NOTHING;
  ROLLED for (int i = LANE; i < PARAMETERS * targets; i += LANES) share += R(0.5) * MATH(log)(work->per_pivot[i]);
  ROLLED for (int k = 2; k <= targets; k++) numberings += MATH(log)((REAL)k);
  REAL total = R(-0.5) * misfit - MATH(log)(R(HEIGHT * WIDTH)) - MATH(log)(count);
  total += R(0.5) * count * (MATH(log)(look->amplitude) - LOG_2PI);
  total += (count - R(1.0)) * MATH(log)(look->own) + MATH(log)(look->common / count) - count * LOG_2PI;
  total += R(0.5 * PARAMETERS) * count * LOG_2PI + numberings + (count - R(1.0)) * look->company;
  return total + sum(share);
}

/* Fills the first starts; how many these are. */
DEVICE int ellipses(Job job, int targets, Moments found) {
  const int turns = job.look->turns, variants = targets == 1 ? 1 : turns + (targets >= 4);
  for (int v = 0; v < variants; v++) {
    const REAL turn = (REAL)v / (REAL)turns;
    start(targets, turn, v == turns, found, job.look->amplitude_dn, job.scratch->starts[v].p);
  }
  return variants;
}

DEVICE REAL nearest(const REAL *target, const REAL *others, int targets) {
  REAL nearest = -NOTHING;
  for (int k = 0; k < targets; k++) {
    const REAL x = target[0] - others[PARAMETERS * k], y = target[1] - others[PARAMETERS * k + 1];
    nearest = least(nearest, x * x + y * y);
  }
  return MATH(sqrt)(nearest);
}

DEVICE REAL farthest(const REAL *p, const REAL *q, int targets) {
  REAL farthest = R(0.0);
  for (int k = 0; k < targets; k++) farthest = most(farthest, nearest(p + PARAMETERS * k, q, targets));
  return farthest;
}

/* Fills work's agreed. */
APART void agreement(const Scratch *scratch, int targets, int variants, int best) {
  const REAL *p = scratch->starts[best].p;
  REAL total = R(0.0);
  for (int v = 0; v < variants; v++) {
    const REAL *q = scratch->starts[v].p;
    for (int other = LANE; other < v; other += LANES)
      work->same[other] = work->weights[other] > R(0.0) && farthest(q, scratch->starts[other].p, targets) < SAME;
    SYNC();
    REAL weight = MATH(exp)(R(-0.5) * (work->misfits[v] - work->misfits[best]));
    for (int other = 0; other < v; other++) weight = work->same[other] ? R(0.0) : weight;
    if (LANE == 0) work->weights[v] = weight;
    total += weight;
    SYNC();
  }
  for (int k = LANE; k < targets; k += LANES) {
    REAL shared = R(0.0);
    for (int v = 0; v < variants; v++)
      if (nearest(p + PARAMETERS * k, scratch->starts[v].p, targets) < AGREES) shared += work->weights[v];
    work->agreed[k] = shared / total;
  }
  SYNC();
}

/* Fits on from one of the starts, and puts there what comes of it. */
DEVICE void fit_start(Job job, int targets, int v, int steps) {
  Solution *start = &job.scratch->starts[v];
  const int n = PARAMETERS * targets;
  copy(start->p, work->points[0].p, n);
  SYNC();
  const End end = fit(job, targets, steps);
  copy(work->points[end.at].p, start->p, n);
  copy(work->points[end.at].matrix, start->matrix, n * (n + 1) / 2);
  if (LANE == 0) work->misfits[v] = end.misfit, work->done[v] = end.done;
  SYNC();
}

DEVICE int least_misfit(int variants) {
  int best = 0;
  for (int v = 1; v < variants; v++) best = work->misfits[v] < work->misfits[best] ? v : best;
  return best;
}

/* Which of the starts leads to the best solution; work's agreed tells how the others agree. */
APART int best_of(Job job, int targets, int variants, REAL needed) {
  for (int v = 0; v < variants; v++) fit_start(job, targets, v, FIRST_STEPS);
  int best = least_misfit(variants);
  if (evidence(job, &job.scratch->starts[best], work->misfits[best], targets) >= needed - OUT_OF_REACH) {
    const int first = best;
    REAL reach = ENDLESS;
    for (int turn = -1; turn < variants; turn++) {
      const int v = turn < 0 ? first : turn;
      if (!work->done[v] && work->misfits[v] < reach) fit_start(job, targets, v, STEPS);
      reach = work->misfits[least_misfit(variants)] + NEAR;
    }
    best = least_misfit(variants);
  }
  agreement(job.scratch, targets, variants, best);
  return best;
}

/* p, matrix: of `found` targets; whether their light is not that of `targets`. */
APART int too_bright_or_dim(const Look *look, const Solution *solution, int found, int targets) {
  const REAL mean = look->amplitude_dn, precision = look->amplitude;
  const int n = PARAMETERS * found;
  REAL *light = work->points[0].vector;
  for (int i = LANE; i < n; i += LANES) light[i] = i % PARAMETERS == 4 ? R(1.0) : R(0.0);
  SYNC();
  if (!cholesky(solution->matrix, light, n, R(0.0), 0)) return 0;
  solve(n);
  REAL away = -(REAL)targets * mean, variance = (REAL)targets / precision;
  for (int k = 0; k < found; k++) {
    away += solution->p[PARAMETERS * k + 4];
    variance += work->solution[PARAMETERS * k + 4];
  }
  return away * away / variance > R(2.0) * RULED_OUT;
}

/* `whole` targets p become one more. */
DEVICE void split(const REAL *p, int whole, Moments found, REAL *parts) {
  const REAL angle = angle_of(found), x = SPLIT * MATH(cos)(angle), y = SPLIT * MATH(sin)(angle);
  int brightest = 0;
  for (int k = 1; k < whole; k++) brightest = p[PARAMETERS * k + 4] > p[PARAMETERS * brightest + 4] ? k : brightest;
  for (int i = LANE; i < PARAMETERS * (whole + 1); i += LANES) {
    const int k = i / PARAMETERS, u = i % PARAMETERS, last = k == whole;
    const REAL value = p[PARAMETERS * (last ? brightest : k) + u], side = last ? R(-1.0) : R(1.0);
    const REAL moved = u == 0 ? value + side * x : u == 1 ? value + side * y : u == 4 ? R(0.5) * value : value;
    parts[i] = last || k == brightest ? moved : value;
  }
}

/* `parts` targets p become one less. */
DEVICE void merged(const REAL *p, int parts, REAL *whole) {
  int first = 0, second = 1;
  REAL least_apart = -NOTHING;
  ROLLED for (int i = 0; i < parts; i++)
    ROLLED for (int j = 0; j < i; j++) {
      const REAL x = p[PARAMETERS * i] - p[PARAMETERS * j], y = p[PARAMETERS * i + 1] - p[PARAMETERS * j + 1];
      if (x * x + y * y < least_apart) first = j, second = i, least_apart = x * x + y * y;
    }
  const REAL *one = p + PARAMETERS * first, *other = p + PARAMETERS * second;
  const REAL light = most(one[4] + other[4], R(1e-9));
  for (int i = LANE; i < PARAMETERS * (parts - 1); i += LANES) {
    const int k = i / PARAMETERS, u = i % PARAMETERS;
    const REAL both = u == 4 ? light : (one[4] * one[u] + other[4] * other[u]) / light;
    whole[i] = k == first ? both : p[PARAMETERS * (k < second ? k : k + 1) + u];
  }
}

/* Fills the starts of a number of targets, which was reached from one less (direction 1) or one more (-1); how many. */
APART int starts_of(Job job, int targets, int direction, Moments found) {
  const Region *region = job.region;
  REAL *first = job.scratch->starts[0].p;
  int variants = 1;
  if (region->held[targets][0][4] != R(0.0))
    copy(&region->held[targets][0][0], first, PARAMETERS * targets);
  else {
    const int grown = direction && region->hinted != targets;
    variants = grown && job.look->turns == 1 ? 0 : ellipses(job, targets, found);
    if (grown) {
      const REAL *p = &job.answer->solutions[targets - direction][0][0];
      REAL *one_more = job.scratch->starts[variants++].p;
      if (direction > 0)
        split(p, targets - 1, found, one_more);
      else
        merged(p, targets + 1, one_more);
    }
  }
  if (region->hinted == targets) copy(&region->hint[0][0], job.scratch->starts[variants++].p, PARAMETERS * targets);
  SYNC();
  return variants;
}

/* Fits a number of targets: its log evidence and solution are noted; which start led there. */
APART int try_number(Job job, int targets, int direction, Moments found) {
  const int variants = starts_of(job, targets, direction, found);
  const REAL odds = job.region->odds[targets], needed = direction ? work->logs[targets - direction] - odds : NOTHING;
  const int best = best_of(job, targets, variants, needed);
  const Solution *solution = &job.scratch->starts[best];
  const REAL log = evidence(job, solution, work->misfits[best], targets) + odds;
  copy(solution->p, &job.answer->solutions[targets][0][0], PARAMETERS * targets);
  if (LANE == 0) work->logs[targets] = log;
  SYNC();
  return best;
}

DEVICE void keep(Job job, int start, int targets) {
  const int n = PARAMETERS * targets;
  copy(job.scratch->starts[start].p, job.scratch->best.p, n);
  copy(job.scratch->starts[start].matrix, job.scratch->best.matrix, n * (n + 1) / 2);
  copy(work->agreed, work->best_agreed, targets);
  SYNC();
}

DEVICE REAL highest_log(int from) {
  REAL highest = work->logs[from];
  for (int k = from + 1; k <= MOST; k++) highest = most(highest, work->logs[k]);
  return highest;
}

/* How many targets there are: scratch's best, as work's best_agreed says how sure; work's logs of all numbers. */
DEVICE int search(Job job) {
  const Moments found = moments(job);
  for (int k = LANE; k <= MOST; k += LANES) work->logs[k] = NOTHING;
  int guess = job.region->begin;
  if (guess == 0) guess = (int)least(most(MATH(rint)(found.light / job.look->amplitude_dn), R(1.0)), R(MOST));
  int number = guess;
  keep(job, try_number(job, guess, 0, found), guess);
  for (int direction = 1; direction >= -1; direction -= 2) {
    int targets = guess + direction;
    while (1 <= targets && targets <= MOST && !too_bright_or_dim(job.look, &job.scratch->best, number, targets)) {
      const int start = try_number(job, targets, direction, found);
      if (work->logs[targets] <= work->logs[targets - direction]) break;
      if (work->logs[targets] >= highest_log(0)) {
        number = targets;
        keep(job, start, targets);
      }
      targets += direction;
    }
  }
  const REAL dark = R(-0.5) * normal_equations(job, 0, 0);
  if (LANE == 0) work->logs[0] = dark;
  SYNC();
  return dark > highest_log(1) ? 0 : number;
}

/* Fills the answer's odds, for `best` targets. */
DEVICE void leave(Job job, int best) {
  const REAL *odds = job.region->odds;
  for (int k = 1; k <= MOST; k++) {
    const REAL *solution = &job.answer->solutions[k][0][0];
    REAL said = NOTHING;
    if (work->logs[k] > NOTHING && solution[4] != R(0.0)) {
      copy(solution, work->points[0].p, PARAMETERS * k);
      SYNC();
      lines(job, work->points[0].p, k, 1);
      said = R(-0.5) * residuals(job.look, job.region, work->points[0].p, k, 1) - WORTH * (REAL)k / R(FRAMES);
    }
    if (LANE == 0) work->said[k] = said;
  }
  SYNC();
  for (int k = LANE; k <= MOST; k += LANES) {
    const REAL gain = k && work->said[k] > NOTHING ? work->said[k] - work->said[best] : R(0.0);
    const REAL moved = least(most(KEEP * (odds[k] - odds[best] + gain), -FIRM), FIRM);
    job.answer->odds[k] = k ? moved : odds[0];
  }
}

/* Fills the answer's cov and amplitude_sd; a lane solves for one column of the inverse. */
APART void certainty(Job job, int targets) {
  const REAL nan_ = MATH(nan)(""), by_x = R(12.0) / R(WIDTH * WIDTH), by_y = R(12.0) / R(HEIGHT * HEIGHT);
  const int n = PARAMETERS * targets;
  for (int i = LANE; i < n; i += LANES) work->known[i] = i % PARAMETERS == 0 ? by_x : i % PARAMETERS == 1 ? by_y : R(0.0);
  SYNC();
  const int certain = cholesky(job.scratch->best.matrix, 0, n, R(0.0), 1);
  ROLLED for (int c = LANE; c < 3 * targets && certain; c += LANES) {
    REAL *column = work->now.columns[c];
    const int k = c / 3, at = PARAMETERS * k + (c % 3 == 2 ? 4 : c % 3);
    ROLLED for (int i = at; i < n; i++) {
      REAL value = i == at ? R(1.0) : R(0.0);
      for (int j = at; j < i; j++) value -= work->factor[AT(i, j)] * work->per_pivot[j] * column[j];
      column[i] = value;
    }
    ROLLED for (int i = n - 1; i >= PARAMETERS * k; i--) {
      REAL value = i < at ? R(0.0) : column[i];
      for (int j = i + 1; j < n; j++) value -= work->factor[AT(j, i)] * column[j];
      column[i] = value * work->per_pivot[i];
    }
  }
  SYNC();
  ROLLED for (int k = LANE; k < targets; k += LANES) {
    const REAL *x = work->now.columns[3 * k] + PARAMETERS * k, *y = work->now.columns[3 * k + 1] + PARAMETERS * k;
    const REAL *a = work->now.columns[3 * k + 2] + PARAMETERS * k;
    REAL xx = nan_, xy = nan_, yy = nan_, sd = nan_;
    if (certain) {
      sd = MATH(sqrt)(a[4]);
      const REAL both = (x[1] + y[0]) / 2;
      if (x[0] * y[1] > both * both && most(most(x[0], y[1]), both) < -NOTHING) xx = x[0], xy = both, yy = y[1];
    }
    job.answer->cov[k][k][0][0] = xx, job.answer->cov[k][k][1][1] = yy;
    job.answer->cov[k][k][0][1] = job.answer->cov[k][k][1][0] = xy;
    job.answer->amplitude_sd[k] = sd;
    ROLLED for (int j = k + 1; j < targets; j++) {
      const REAL *there[2] = {x + PARAMETERS * (j - k), y + PARAMETERS * (j - k)};
      ROLLED for (int u = 0; u < 2; u++)
        ROLLED for (int v = 0; v < 2; v++)
          job.answer->cov[k][j][u][v] = job.answer->cov[j][k][v][u] = certain ? there[u][v] : nan_;
    }
  }
}

/* Fills the answer's strain. */
APART void strain(Job job, int targets) {
  const REAL *p = job.scratch->best.p, noise = job.region->noise;
  const REAL floor = most(job.region->limits[0], UNKNOWN), ceiling = job.region->limits[1];
  REAL alone = R(0.0), together = R(0.0), seen_pixels = R(0.0), pixels = R(0.0);
  SYNC();
  lines(job, p, targets, FRAMES);
  for (int i = LANE; i < HEIGHT * WIDTH; i += LANES) {
    REAL left = R(0.0), variance = R(0.0);
    ROLLED for (int t = 0; t < FRAMES; t++) {
      const REAL seen = job.region->images[t][i / WIDTH][i % WIDTH], light = light_at(p, targets, t, i / WIDTH, i % WIDTH);
      if (light > LIT * noise && floor < seen && seen < ceiling) {
        const REAL away = seen - light, spread = noise * noise + job.look->shot * light;
        alone += away * away / spread;
        left += away, variance += spread, seen_pixels += R(1.0);
      }
    }
    if (variance > R(0.0)) together += left * left / variance, pixels += R(1.0);
  }
  alone = sum(alone), together = sum(together), seen_pixels = sum(seen_pixels), pixels = sum(pixels);
  if (LANE == 0) {
    job.answer->strain[0] = alone / most(seen_pixels, R(1.0));
    job.answer->strain[1] = together / most(pixels, R(1.0));
  }
}

/* Which entry of a triangle is in which row and column of its matrix. */
DEVICE void number_entries(void) {
  for (int i = LANE; i <= ALL; i += LANES)
    for (int j = 0; j <= i; j++) {
      work->row_of[AT(i, j)] = (unsigned char)i;
      work->column_of[AT(i, j)] = (unsigned char)j;
    }
}

DEVICE void clear(Answer *answer) {
  for (int i = LANE; i < MOST * PARAMETERS; i += LANES) (&answer->points[0][0])[i] = R(0.0);
  for (int i = LANE; i < MOST * MOST * 4; i += LANES) (&answer->cov[0][0][0][0])[i] = R(0.0);
  for (int i = LANE; i < MOST; i += LANES) answer->amplitude_sd[i] = answer->probability[i] = R(0.0);
  for (int i = LANE; i <= MOST; i += LANES) answer->odds[i] = R(0.0);
  if (LANE == 0) answer->strain[0] = answer->strain[1] = R(0.0);
  for (int i = LANE; i < (MOST + 1) * MOST * PARAMETERS; i += LANES) (&answer->solutions[0][0][0])[i] = R(0.0);
}

/* Fills the answer's probability: the weight of all numbers of targets whose solutions have each target of the best one. */
DEVICE void shared_belief(Job job, int number) {
  const REAL highest = highest_log(0);
  REAL total = R(0.0);
  for (int n = 0; n <= MOST; n++) total += work->logs[n] > NOTHING ? MATH(exp)(work->logs[n] - highest) : R(0.0);
  for (int k = LANE; k < number; k += LANES) {
    const REAL *target = job.scratch->best.p + PARAMETERS * k;
    REAL shared = R(0.0);
    for (int n = 1; n <= MOST; n++) {
      if (!(work->logs[n] > NOTHING)) continue;
      const REAL there = nearest(target, &job.answer->solutions[n][0][0], n) < AGREES ? R(1.0) : R(0.0);
      shared += MATH(exp)(work->logs[n] - highest) * (n == number ? work->best_agreed[k] : there);
    }
    job.answer->probability[k] = shared / total;
  }
}

DEVICE void search_region(Job job) {
  number_entries();
  clear(job.answer);
  SYNC();
  const int number = search(job);
  certainty(job, number);
  copy(job.scratch->best.p, &job.answer->points[0][0], PARAMETERS * number);
  shared_belief(job, number);
  if (LANE == 0) job.answer->number = number;
  if (number == 0) return;
  strain(job, number);
  leave(job, number);
}

#ifdef __CUDACC__
/* outside: room for each block's Work where its shared memory has none. */
extern "C" __global__ void __launch_bounds__(LANES)
    search_each(const Look *look, const Region *regions, Answer *answers, Scratch *scratch, Work *outside) {
#if !IN_SHARED
  if (LANE == 0) work = outside + BLOCK;
  __syncthreads();
#endif
  const Job job = {look, regions + BLOCK, answers + BLOCK, scratch + BLOCK};
  search_region(job);
}
#endif
