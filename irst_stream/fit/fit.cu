/* The fit of the imaging model and the selection of the number of targets, one region per block: the functions of the
   package `compiled`, by their names and in its order; its docstrings say what they compute and why.

   The compiler gets MOST (largest number of targets), FRAMES, HEIGHT, WIDTH (px), VARIANTS (largest number of starts of one
   number of targets), TERMS (of a PSF, 0 for a Gaussian along the axes) and PIECES (of each term's profiles), LANES (threads
   of a block), REAL (double or float), SINGLE (1 where that is float) and IN_SHARED (1 where the block's Work is in its
   shared memory). The source is CUDA C++ as well as C11: outside CUDA the including file defines LANE, SYNC(), DEVICE and
   NOINLINE, and sets `work`.

   All lanes of a block take the same branches: every condition is read from shared memory after a SYNC(), or computed alike
   by each lane. Loops over pixels, parameters or matrix entries are split over the lanes:
   for (int i = LANE; i < n; i += LANES). A function that fills data for other lanes ends with a SYNC(). */

#ifdef __CUDACC__
#define DEVICE __device__ static
#define NOINLINE __device__ static __noinline__
#define LANE ((int)threadIdx.x)
#define BLOCK (blockIdx.x)
#if LANES > 32
#define SYNC() __syncthreads()
#else
#define SYNC() __syncwarp()
#endif
#define ROLLED _Pragma("unroll 1") /* loops that unrolling does not speed up, only their compilation slows down */
#define UNROLLED _Pragma("unroll") /* loops whose variables belong in registers */
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

/* Constants that stand nowhere here, such as MAX_STEP_PX, are those of the compiled modules: see cuda_layout.py. */
#define PI R(3.14159265358979323846)
#define SQRT_2 R(1.41421356237309504880)
#define SQRT_2PI R(2.50662827463100050242)
#define LOG_2 R(0.69314718055994530942)
#define HUGE_MISFIT R(3e38)

#define MAX_PARAMETERS (PARAMETERS * MOST) /* parameters of MOST targets */
#define TRIANGLE (MAX_PARAMETERS * (MAX_PARAMETERS + 1) / 2) /* a symmetric matrix's entries, by rows up to the diagonal */
#define PAIRS (MOST * (MOST + 1) / 2)
#define PARTS (TERMS ? TERMS : 1) /* profiles along an axis of one target */
#define AXIS_PIXELS (WIDTH + HEIGHT) /* pixels along x, then along y */
#define MAX_TILE (SINGLE ? 12 : 6) /* columns whose products a lane holds in its registers */
#define TILE (WIDTH < MAX_TILE ? WIDTH : MAX_TILE)
#define AT(i, j) ((i) * ((i) + 1) / 2 + (j)) /* of such a matrix, i >= j */

/* The same for all regions of one PSF: the imaging model, see PsfShape in compiled.records, and the priors. */
typedef struct {
  int start_count;
  REAL sigma, amplitude_dn, amplitude, common, own, min_spread, max_spread, extra_target, stretch[2];
#if TERMS
  REAL first, per_width, width_px, columns[TERMS][PIECES][4], rows[TERMS][PIECES][4];
#endif
} Priors;

/* The input of one region's search; psf: which Priors are its own; times and shifts, along x and y, of its frames; hint,
   warm_solutions and odds as in compiled.model_selection. */
typedef struct {
  int psf, hint_count, first_number;
  REAL times[FRAMES], shifts[FRAMES][2], noise, limits[2], shot, hint[MOST][PARAMETERS];
  REAL warm_solutions[MOST + 1][MOST][PARAMETERS], odds[MOST + 1];
  REAL images[FRAMES][HEIGHT][WIDTH];
} Region;

/* The targets found there: see search.FitResults. */
typedef struct {
  int number;
  REAL targets[MOST][PARAMETERS], cov[MOST][MOST][2][2], amplitude_sd[MOST], probability[MOST], reduced_chi_square[2];
  REAL solutions[MOST + 1][MOST][PARAMETERS], odds[MOST + 1];
} Result;

typedef struct {
  REAL p[MAX_PARAMETERS], matrix[TRIANGLE];
} Start;

/* A block's working memory in global memory. */
typedef struct {
  Start starts[VARIANTS], best;
} Scratch;

typedef struct {
  const Priors *priors;
  const Region *region;
  Result *result;
  Scratch *scratch;
} Job;

/* A block's working memory, in its shared memory where it fits. */
typedef struct {
  struct {
    REAL p[MAX_PARAMETERS], matrix[TRIANGLE], vector[MAX_PARAMETERS];
  } points[2]; /* the fit's current point and its trial point */
  REAL factor[TRIANGLE + MAX_PARAMETERS + 1], per_pivot[MAX_PARAMETERS], solution[MAX_PARAMETERS], diagonal[MAX_PARAMETERS];
  REAL share[FRAMES][MOST * PARTS][AXIS_PIXELS], slope[FRAMES][MOST * PARTS][AXIS_PIXELS];
  REAL residual[FRAMES][HEIGHT][WIDTH], weight[FRAMES][HEIGHT][WIDTH];
  union { /* not in use at the same time */
    struct {
      REAL erf[FRAMES][MOST][AXIS_PIXELS + 2], density[FRAMES][MOST][AXIS_PIXELS + 2];
    } edges;
    struct {
      REAL matrix[FRAMES][PAIRS][3][3], vector[FRAMES][MOST][3];
    } frames;
    struct {
      REAL rows[FRAMES][HEIGHT][3], frames[FRAMES][6];
    } light;
    REAL columns[3 * MOST][MAX_PARAMETERS];
  } temp;
  REAL partial[LANES];
  REAL misfits[VARIANTS], weights[VARIANTS], agreed[MOST], best_agreed[MOST], logs[MOST + 1], frame_evidence[MOST + 1];
  int done[VARIANTS], duplicate[VARIANTS];
  unsigned char row_of[TRIANGLE + MAX_PARAMETERS + 1], column_of[TRIANGLE + MAX_PARAMETERS + 1];
} Work;

#ifndef __CUDACC__
static Work *work;
#elif IN_SHARED
extern __shared__ double shared_memory[];
#define work ((Work *)shared_memory)
#else
__shared__ Work *work;
#endif

/* The structs' sizes, for the host to check and to allocate. */
#ifdef __CUDACC__
extern "C" __constant__
#endif
    const unsigned int sizes[] = {sizeof(Priors), sizeof(Region), sizeof(Result), sizeof(Scratch), sizeof(Work)};

DEVICE REAL smaller(REAL a, REAL b) { return a < b ? a : b; }

DEVICE REAL larger(REAL a, REAL b) { return a > b ? a : b; }

/* The sum of the lanes' values, in a fixed order, returned to each lane. */
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

/* A target's place along an axis, 0 for x, in a frame. */
DEVICE REAL centre_of(Job job, const REAL *p, int t, int k, int axis) {
  return p[PARAMETERS * k + axis] + p[PARAMETERS * k + 2 + axis] * job.region->times[t] + job.region->shifts[t][axis];
}

#if TERMS
/* Fills work's share and slope: the pixel profiles of each term of all targets along both axes in the first frames. */
NOINLINE void fill_profiles(Job job, const REAL *p, int targets, int frames) {
  const Priors *of = job.priors;
  const REAL per_pixel = of->per_width / of->sigma, height = of->width_px / of->sigma;
  for (int i = LANE; i < frames * targets * AXIS_PIXELS; i += LANES) {
    const int t = i / (targets * AXIS_PIXELS), k = i / AXIS_PIXELS % targets, s = i % AXIS_PIXELS, axis = s >= WIDTH;
    const REAL pixel = (REAL)(axis ? s - WIDTH : s);
    const REAL at = (pixel - centre_of(job, p, t, k, axis)) * per_pixel - of->first * of->per_width;
    const int within = at >= R(0.0) && at < (REAL)PIECES, piece = within ? (int)at : 0;
    const REAL u = at - (REAL)piece, none = R(0.0) * (at == at ? R(0.0) : at); /* NaN for NaN */
    for (int term = 0; term < TERMS; term++) {
      const REAL *c = axis ? of->rows[term][piece] : of->columns[term][piece];
      const REAL value = height * (c[0] + u * (c[1] + u * (c[2] + u * c[3])));
      const REAL slope = -height * per_pixel * (c[1] + u * (R(2.0) * c[2] + R(3.0) * u * c[3]));
      work->share[t][k * TERMS + term][s] = within ? value : none;
      work->slope[t][k * TERMS + term][s] = within ? slope : none;
    }
  }
  SYNC();
}
#else
DEVICE void erf_and_density(REAL u, REAL *erf_u, REAL *density) {
  if (u > ERF_CUTOFF) {
    *erf_u = R(1.0), *density = R(0.0);
  } else if (u < -ERF_CUTOFF) {
    *erf_u = R(-1.0), *density = R(0.0);
  } else {
    *erf_u = MATH(erf)(u), *density = MATH(exp)(-u * u);
  }
}

/* Fills work's share and slope: the pixel profiles of all targets along both axes in the first frames. */
NOINLINE void fill_profiles(Job job, const REAL *p, int targets, int frames) {
  for (int i = LANE; i < frames * targets * (AXIS_PIXELS + 2); i += LANES) {
    const int t = i / (targets * (AXIS_PIXELS + 2)), k = i / (AXIS_PIXELS + 2) % targets, s = i % (AXIS_PIXELS + 2);
    const int axis = s > WIDTH, pixel = axis ? s - WIDTH - 1 : s;
    const REAL scale = R(1.0) / (SQRT_2 * job.priors->sigma * job.priors->stretch[axis]);
    const REAL u = ((REAL)pixel - R(0.5) - centre_of(job, p, t, k, axis)) * scale;
    erf_and_density(u, &work->temp.edges.erf[t][k][s], &work->temp.edges.density[t][k][s]);
  }
  SYNC();
  for (int i = LANE; i < frames * targets * AXIS_PIXELS; i += LANES) {
    const int t = i / (targets * AXIS_PIXELS), k = i / AXIS_PIXELS % targets, s = i % AXIS_PIXELS;
    const int left = s < WIDTH ? s : s + 1;
    const REAL *at = work->temp.edges.erf[t][k] + left, *density = work->temp.edges.density[t][k] + left;
    const REAL height = R(1.0) / (SQRT_2PI * job.priors->sigma * job.priors->stretch[s >= WIDTH]);
    work->share[t][k][s] = R(0.5) * (at[1] - at[0]);
    work->slope[t][k][s] = height * (density[0] - density[1]);
  }
  SYNC();
}
#endif

DEVICE REAL censored_cost(REAL z, REAL *slope) {
  if (z > R(8.0)) {
    *slope = z + R(1.0) / z;
    return z * z + LOG_2PI + R(2.0) * MATH(log)(z) - R(2.0) * LOG_2;
  }
  const REAL tail = R(0.5) * MATH(erfc)(z / SQRT_2);
  *slope = R(0.5) * SQRT_2_BY_PI * MATH(exp)(R(-0.5) * z * z) / tail;
  return R(-2.0) * MATH(log)(R(2.0) * tail);
}

/* A pixel's misfit terms by its light: residual is half its derivative, excess is 1 - its expected curvature. */
typedef struct {
  REAL square, sharpness, residual, excess;
} PixelTerms;

DEVICE PixelTerms shot_noise_terms(REAL light, REAL away, REAL slope) {
  const REAL bend = light > R(0.0) ? R(0.5) * slope : R(0.0), sharpness = R(1.0) / (R(1.0) + slope * larger(light, R(0.0)));
  const REAL square = away * away * sharpness;
  const PixelTerms by = {square, sharpness, (away - bend * (square - R(1.0))) * sharpness,
                      R(1.0) - (R(1.0) + bend * slope * sharpness) * sharpness};
  return by;
}

/* Terms of a censored pixel; square is its whole misfit. */
DEVICE PixelTerms censored_terms(REAL light, REAL away, REAL slope, REAL side) {
  const REAL sharpness = shot_noise_terms(light, away, slope).sharpness, scale = side * MATH(sqrt)(sharpness);
  const REAL turn = scale * (R(1.0) - (light > R(0.0) ? R(0.5) * slope * away * sharpness : R(0.0)));
  REAL steep;
  const REAL cost = censored_cost(scale * away, &steep);
  const PixelTerms by = {cost, R(1.0), steep * turn, R(1.0) - steep * (steep - scale * away) * turn * turn};
  return by;
}

/* The light of all targets in a pixel. */
DEVICE REAL light_at(const REAL *p, int targets, int t, int r, int c) {
  REAL total = R(0.0);
  for (int i = 0; i < targets * PARTS; i++)
    total += p[PARAMETERS * (i / PARTS) + 4] * work->share[t][i][WIDTH + r] * work->share[t][i][c];
  return total;
}

/* Fills residual and weight, a pixel's curvature in units of 1 / noise^2, of the first frames; returns the misfit. */
NOINLINE REAL residuals(const Region *region, const REAL *p, int targets, int frames) {
  const REAL floor = region->limits[0], ceiling = region->limits[1];
  const REAL per = R(1.0) / region->noise, slope = region->shot * per;
  REAL misfit = R(0.0), sharper = R(1.0); /* the product over many pixels needs only one logarithm */
  for (int i = LANE; i < frames * HEIGHT * WIDTH; i += LANES) {
    const int t = i / (HEIGHT * WIDTH), r = i / WIDTH % HEIGHT, c = i % WIDTH;
    const REAL seen = region->images[t][r][c];
    const REAL total = light_at(p, targets, t, r, c), light = total * per, away = (total - seen) * per;
    PixelTerms by = {R(0.0), R(1.0), R(0.0), R(0.0)};
    if (seen < UNKNOWN)
      by.excess = R(1.0);
    else if (floor < seen && seen < ceiling)
      by = shot_noise_terms(light, away, slope);
    else if (!(seen <= floor && away < R(1e-3)))
      by = censored_terms(light, away, slope, seen <= floor ? R(1.0) : R(-1.0));
    misfit += by.square;
    sharper *= by.sharpness;
    if (sharper < R(1e-20)) {
      misfit -= MATH(log)(sharper);
      sharper = R(1.0);
    }
    work->residual[t][r][c] = by.residual;
    work->weight[t][r][c] = MATH(fabs)(by.excess) < MIN_EXCESS ? R(1.0) : R(1.0) - by.excess;
  }
  return sum(misfit - MATH(log)(sharper));
}

#if TERMS
/* The image of a target of amplitude 1 in a pixel, and its derivatives: by x, y and the amplitude. */
typedef struct {
  REAL by[3];
} Slopes;

DEVICE Slopes slopes_at(int t, int target, int r, int c) {
  Slopes found = {{R(0.0), R(0.0), R(0.0)}};
  UNROLLED for (int i = target * TERMS; i < (target + 1) * TERMS; i++) {
    const REAL row = work->share[t][i][WIDTH + r], column = work->share[t][i][c];
    found.by[0] += row * work->slope[t][i][c];
    found.by[1] += work->slope[t][i][WIDTH + r] * column;
    found.by[2] += row * column;
  }
  return found;
}

DEVICE void frame_block(int t, int pair) {
  REAL block[3][3] = {{R(0.0)}};
  ROLLED for (int i = 0; i < HEIGHT * WIDTH; i++) {
    const Slopes one = slopes_at(t, work->row_of[pair], i / WIDTH, i % WIDTH);
    const Slopes other = slopes_at(t, work->column_of[pair], i / WIDTH, i % WIDTH);
    const REAL weight = work->weight[t][i / WIDTH][i % WIDTH];
    UNROLLED for (int u = 0; u < 3; u++)
      UNROLLED for (int v = 0; v < 3; v++) block[u][v] += weight * one.by[u] * other.by[v];
  }
  UNROLLED for (int u = 0; u < 3; u++)
    UNROLLED for (int v = 0; v < 3; v++) work->temp.frames.matrix[t][pair][u][v] = block[u][v];
}

DEVICE void frame_gradient(int t, int target) {
  REAL by[3] = {R(0.0), R(0.0), R(0.0)};
  ROLLED for (int i = 0; i < HEIGHT * WIDTH; i++) {
    const Slopes slopes = slopes_at(t, target, i / WIDTH, i % WIDTH);
    UNROLLED for (int u = 0; u < 3; u++) by[u] += work->residual[t][i / WIDTH][i % WIDTH] * slopes.by[u];
  }
  UNROLLED for (int u = 0; u < 3; u++) work->temp.frames.vector[t][target][u] = by[u];
}
#else
/* Adds a tile of columns to the block (3, 3) of one frame's Gauss-Newton matrix for targets i and j. The products along the
   tile's columns stay in registers while the rows' weights are applied. */
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
    UNROLLED for (int v = 0; v < 3; v++) work->temp.frames.matrix[t][pair][u][v] = block[u][v];
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
  REAL *vector = work->temp.frames.vector[t][target];
  vector[0] = by_x, vector[1] = by_y, vector[2] = by_a;
}
#endif

/* Each frame's Gauss-Newton matrix and gradient by x, y, a of each target, without the factors of amplitude and noise. */
NOINLINE void frame_equations(int targets) {
  const int blocks = FRAMES * targets * (targets + 1) / 2;
  for (int e = LANE; e < blocks + FRAMES * targets; e += LANES)
    if (e < blocks)
      frame_block(e % FRAMES, e / FRAMES);
    else
      frame_gradient((e - blocks) % FRAMES, (e - blocks) / FRAMES);
  SYNC();
}

/* Which of x, y, a of a frame a parameter acts on, and the factor of amplitude and noise in that derivative. */
DEVICE int frame_parameter(int parameter) {
  const int u = parameter % PARAMETERS;
  return u == 4 ? 2 : u % 2;
}

DEVICE REAL chain_factor(const REAL *p, int parameter, REAL per) {
  return (parameter % PARAMETERS == 4 ? R(1.0) : p[parameter / PARAMETERS * PARAMETERS + 4]) * per;
}

DEVICE int is_velocity(int parameter) { return parameter % PARAMETERS == 2 || parameter % PARAMETERS == 3; }

/* The sum of the frames' equations, by (x, y, vx, vy, a), where d/dv = time d/dx. */
DEVICE void add_frames(Job job, const REAL *p, int targets, REAL *matrix, REAL *vector) {
  const REAL per = R(1.0) / job.region->noise;
  const int n = PARAMETERS * targets;
  for (int e = LANE; e < n * (n + 1) / 2; e += LANES) {
    const int i = work->row_of[e], j = work->column_of[e];
    const int pair = AT(i / PARAMETERS, j / PARAMETERS), u = frame_parameter(i), v = frame_parameter(j);
    REAL total = R(0.0);
    for (int t = 0; t < FRAMES; t++) {
      const REAL time = job.region->times[t];
      const REAL moves = (is_velocity(i) ? time : R(1.0)) * (is_velocity(j) ? time : R(1.0));
      total += moves * work->temp.frames.matrix[t][pair][u][v];
    }
    matrix[e] = chain_factor(p, i, per) * chain_factor(p, j, per) * total;
  }
  for (int i = LANE; i < n; i += LANES) {
    REAL total = R(0.0);
    for (int t = 0; t < FRAMES; t++)
      total += (is_velocity(i) ? job.region->times[t] : R(1.0)) *
               work->temp.frames.vector[t][i / PARAMETERS][frame_parameter(i)];
    vector[i] = chain_factor(p, i, per) * total;
  }
}

/* Returns the precision, 1/px^2, that holds targets to their centre; misfit: the positions' share of the misfit. */
DEVICE REAL spread_prior(const Priors *priors, REAL square, int targets, REAL *misfit) {
  const REAL first = MATH(log)(priors->min_spread);
  const REAL step = MATH(log)(priors->max_spread / priors->min_spread) / R(SPREAD_STEPS - 1);
  REAL misfits[SPREAD_STEPS], lowest = HUGE_MISFIT, total = R(0.0), precision = R(0.0);
  for (int i = 0; i < SPREAD_STEPS; i++) {
    const REAL log = first + (REAL)i * step;
    misfits[i] = square * MATH(exp)(R(-2.0) * log) + R(2.0) * (REAL)(targets - 1) * (LOG_2PI + R(2.0) * log);
    lowest = smaller(lowest, misfits[i]);
  }
  for (int i = 0; i < SPREAD_STEPS; i++) {
    const REAL weight = MATH(exp)(R(0.5) * (lowest - misfits[i]));
    total += weight;
    precision += weight * MATH(exp)(R(-2.0) * (first + (REAL)i * step));
  }
  *misfit = lowest - R(2.0) * MATH(log)(total / R(SPREAD_STEPS));
  return precision / total;
}

/* Adds the priors to the entries that the same lane has filled; returns their share of the misfit. */
DEVICE REAL add_priors(const Priors *priors, const REAL *p, int targets, REAL *matrix, REAL *vector) {
  const REAL mean = priors->amplitude_dn, amplitude = priors->amplitude, common = priors->common, own = priors->own;
  const REAL share = R(1.0) / (REAL)(targets ? targets : 1);
  const int n = PARAMETERS * targets;
  REAL misfit = R(0.0), velocity[2], centre[2], square = R(0.0), places = R(0.0);
  for (int axis = 0; axis < 2; axis++) {
    centre[axis] = R(0.0);
    for (int k = 0; k < targets; k++) centre[axis] += p[PARAMETERS * k + axis] * share;
    for (int k = 0; k < targets; k++) {
      const REAL away = p[PARAMETERS * k + axis] - centre[axis];
      square += away * away;
    }
    velocity[axis] = R(0.0);
    for (int k = 0; k < targets; k++) velocity[axis] += p[PARAMETERS * k + 2 + axis] * share;
    misfit += common * velocity[axis] * velocity[axis];
    for (int k = 0; k < targets; k++) {
      const REAL away = p[PARAMETERS * k + 2 + axis] - velocity[axis];
      misfit += own * away * away;
    }
  }
  for (int k = 0; k < targets; k++) {
    const REAL away = p[PARAMETERS * k + 4] - mean;
    misfit += amplitude * away * away;
  }
  const REAL precision = targets > 1 ? spread_prior(priors, square, targets, &places) : R(0.0);
  misfit += places;
  for (int e = LANE; e < n * (n + 1) / 2; e += LANES) {
    const int i = work->row_of[e], j = work->column_of[e];
    if (i == j && i % PARAMETERS == 4) matrix[e] += amplitude;
    if (i % PARAMETERS < 2 && i % PARAMETERS == j % PARAMETERS)
      matrix[e] += precision * ((i == j ? R(1.0) : R(0.0)) - share);
    if (is_velocity(i) && i % PARAMETERS == j % PARAMETERS)
      matrix[e] += own * ((i == j ? R(1.0) : R(0.0)) - share) + common * share * share;
  }
  for (int i = LANE; i < n; i += LANES) {
    if (i % PARAMETERS == 4) vector[i] += amplitude * (p[i] - mean);
    if (i % PARAMETERS < 2) vector[i] += precision * (p[i] - centre[i % PARAMETERS]);
    if (is_velocity(i)) {
      const REAL at = velocity[i % PARAMETERS - 2];
      vector[i] += own * (p[i] - at) + common * at * share;
    }
  }
  return misfit;
}

/* Fills the matrix and gradient of work's point `at`; returns the misfit. */
NOINLINE REAL normal_equations(Job job, int targets, int at) {
  const REAL *p = work->points[at].p;
  REAL *matrix = work->points[at].matrix, *vector = work->points[at].vector;
  fill_profiles(job, p, targets, FRAMES);
  REAL misfit = residuals(job.region, p, targets, FRAMES);
  frame_equations(targets);
  add_frames(job, p, targets, matrix, vector);
  misfit += add_priors(job.priors, p, targets, matrix, vector);
  SYNC();
  return misfit;
}

/* Fills work's factor, L D where the matrix + damping x its diagonal is L D L', and 1 / D; returns 0 where that is not
   positive definite. bounded: whether work's diagonal is added. vector, where given, becomes one more row: L Z = vector. */
NOINLINE int cholesky(const REAL *matrix, const REAL *vector, int n, REAL damping, int bounded) {
  const int rows = vector ? n + 1 : n, entries = n * (n + 1) / 2;
  for (int e = LANE; e < rows * (rows + 1) / 2; e += LANES)
    if (e < entries) {
      const int i = work->row_of[e];
      const REAL known = damping * matrix[e] + (bounded ? work->diagonal[i] : R(0.0));
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

/* Fills work's solution from the factor with a vector, one target's parameters at a time. */
NOINLINE void solve(int n) {
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
} FitEnd;

/* Fits from work's first point; FitEnd.at says which of the two points holds the result. */
NOINLINE FitEnd fit(Job job, int targets, int steps) {
  const int n = PARAMETERS * targets;
  REAL damping = FIRST_DAMPING;
  FitEnd end = {normal_equations(job, targets, 0), 0, 0};
  for (int step = 0; step < steps; step++) {
    const int at = end.at, to = 1 - at;
    if (!cholesky(work->points[at].matrix, work->points[at].vector, n, damping, 0)) {
      damping = larger(damping, FIRST_DAMPING) * DAMPING_INCREASE;
      continue;
    }
    solve(n);
    for (int i = LANE; i < n; i += LANES) {
      const REAL moved = work->solution[i], clipped = smaller(larger(moved, -MAX_STEP_PX), MAX_STEP_PX);
      work->points[to].p[i] = work->points[at].p[i] - (i % PARAMETERS < 4 ? clipped : moved);
    }
    SYNC();
    const REAL found = normal_equations(job, targets, to);
    if (found < end.misfit) {
      const REAL gained = end.misfit - found;
      end.misfit = found, end.at = to;
      damping *= DAMPING_DECREASE;
      end.done = gained < MIN_GAIN;
    } else {
      damping *= DAMPING_INCREASE;
      end.done = damping > MAX_DAMPING;
    }
    if (end.done) break;
  }
  return end;
}

typedef struct {
  REAL light, x, y, vx, vy, xx, xy, yy;
} Moments;

NOINLINE Moments light_moments(Job job) {
  const REAL threshold = R(3.0) * job.region->noise;
  for (int i = LANE; i < FRAMES * HEIGHT; i += LANES) {
    const REAL *pixels = job.region->images[i / HEIGHT][i % HEIGHT], shift = job.region->shifts[i / HEIGHT][0];
    REAL *row = work->temp.light.rows[i / HEIGHT][i % HEIGHT];
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
      total += work->temp.light.rows[t][r][by_x] * (by_y == 2 ? y * y : by_y ? y : R(1.0));
    }
    work->temp.light.frames[t][which] = total;
  }
  SYNC();
  REAL mean_time = R(0.0), steps = R(0.0), sums[6] = {R(0.0), R(0.0), R(0.0), R(0.0), R(0.0), R(0.0)};
  Moments found = {R(0.0), R(WIDTH - 1) / 2, R(HEIGHT - 1) / 2, R(0.0), R(0.0), R(0.0), R(0.0), R(0.0)};
  for (int t = 0; t < FRAMES; t++) mean_time += job.region->times[t] / FRAMES;
  for (int t = 0; t < FRAMES; t++) {
    const REAL time = job.region->times[t] - mean_time, flux = work->temp.light.frames[t][0];
    if (flux > R(0.0)) {
      found.vx += time * work->temp.light.frames[t][1] / flux;
      found.vy += time * work->temp.light.frames[t][2] / flux;
    }
    steps += time * time;
    for (int which = 0; which < 6; which++) sums[which] += work->temp.light.frames[t][which];
  }
  SYNC();
  found.vx = steps > R(0.0) ? found.vx / steps : R(0.0);
  found.vy = steps > R(0.0) ? found.vy / steps : R(0.0);
  if (sums[0] > R(0.0)) {
    const REAL optics = job.priors->sigma * job.priors->sigma + R(1.0) / R(12.0);
    found.light = sums[0] / FRAMES, found.x = sums[1] / sums[0], found.y = sums[2] / sums[0];
    found.xx = sums[3] / sums[0] - found.x * found.x - optics;
    found.xy = sums[4] / sums[0] - found.x * found.y;
    found.yy = sums[5] / sums[0] - found.y * found.y - optics;
  }
  return found;
}

DEVICE REAL angle_of(Moments found) { return R(0.5) * MATH(atan2)(R(2.0) * found.xy, found.xx - found.yy); }

NOINLINE void ellipse_start(int targets, REAL turn, int filled, Moments found, REAL amplitude, REAL *p) {
  const REAL half = (found.xx - found.yy) / 2, angle = angle_of(found);
  const REAL root = MATH(sqrt)(half * half + found.xy * found.xy);
  const REAL longer = MATH(sqrt)(larger((found.xx + found.yy) / 2 + root, MIN_SPREAD_PX * MIN_SPREAD_PX));
  const REAL shorter = MATH(sqrt)(larger((found.xx + found.yy) / 2 - root, MIN_SPREAD_PX * MIN_SPREAD_PX));
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

/* Fills work's diagonal: the precision, 1 / px^2, that bounds the positions of coincident targets. */
DEVICE void bound_coincident(Job job, const REAL *p, int targets) {
  const REAL width = job.priors->sigma * job.priors->sigma + R(1.0) / R(12.0);
  const REAL curvature = CURVATURE_NORM / (width * MATH(sqrt)(width));
  REAL light = R(0.0);
  for (int k = 0; k < targets; k++) light += p[PARAMETERS * k + 4];
  const REAL amplitude = larger(light / (REAL)targets, job.priors->amplitude_dn);
  const REAL parting = QUARTIC_VARIANCE * job.region->noise / (amplitude * curvature * MATH(sqrt)(R(FRAMES)));
  for (int i = LANE; i < PARAMETERS * targets; i += LANES) {
    const REAL *own = p + PARAMETERS * (i / PARAMETERS);
    REAL close = R(0.0);
    for (int j = 0; j < targets && i % PARAMETERS < 2; j++) {
      const REAL x = p[PARAMETERS * j] - own[0], y = p[PARAMETERS * j + 1] - own[1];
      if (j != i / PARAMETERS) close = larger(close, MATH(exp)(-(x * x + y * y) / (COINCIDENCE_REACH * parting)));
    }
    work->diagonal[i] = close / parting;
  }
  SYNC();
}

NOINLINE REAL evidence(Job job, const Start *solution, REAL misfit, int targets) {
  const Priors *priors = job.priors;
  const REAL count = (REAL)targets;
  REAL share = R(0.0), numberings = R(0.0);
  bound_coincident(job, solution->p, targets);
  if (!cholesky(solution->matrix, 0, PARAMETERS * targets, R(0.0), 1)) return -INFINITE;
  ROLLED for (int i = LANE; i < PARAMETERS * targets; i += LANES) share += R(0.5) * MATH(log)(work->per_pivot[i]);
  ROLLED for (int k = 2; k <= targets; k++) numberings += MATH(log)((REAL)k);
  REAL total = R(-0.5) * misfit - MATH(log)(R(HEIGHT * WIDTH)) - MATH(log)(count);
  total += R(0.5) * count * (MATH(log)(priors->amplitude) - LOG_2PI);
  total += (count - R(1.0)) * MATH(log)(priors->own) + MATH(log)(priors->common / count) - count * LOG_2PI;
  total += R(0.5 * PARAMETERS) * count * LOG_2PI + numberings + (count - R(1.0)) * priors->extra_target;
  return total + sum(share);
}

/* Fills the first starts; returns their number. */
DEVICE int ellipse_starts(Job job, int targets, Moments found) {
  const int start_count = job.priors->start_count, variants = targets == 1 ? 1 : start_count + (targets >= 4);
  for (int v = 0; v < variants; v++) {
    const REAL turn = (REAL)v / (REAL)start_count;
    ellipse_start(targets, turn, v == start_count, found, job.priors->amplitude_dn, job.scratch->starts[v].p);
  }
  return variants;
}

DEVICE REAL nearest_distance(const REAL *target, const REAL *others, int targets) {
  REAL nearest = INFINITE;
  for (int k = 0; k < targets; k++) {
    const REAL x = target[0] - others[PARAMETERS * k], y = target[1] - others[PARAMETERS * k + 1];
    nearest = smaller(nearest, x * x + y * y);
  }
  return MATH(sqrt)(nearest);
}

DEVICE REAL largest_distance(const REAL *p, const REAL *q, int targets) {
  REAL farthest = R(0.0);
  for (int k = 0; k < targets; k++) farthest = larger(farthest, nearest_distance(p + PARAMETERS * k, q, targets));
  return farthest;
}

/* Fills work's agreed: for each target of the best solution, the weight of all solutions that share it. */
NOINLINE void agreement(const Scratch *scratch, int targets, int variants, int best) {
  const REAL *p = scratch->starts[best].p;
  REAL total = R(0.0);
  for (int v = 0; v < variants; v++) {
    const REAL *q = scratch->starts[v].p;
    for (int other = LANE; other < v; other += LANES)
      work->duplicate[other] =
          work->weights[other] > R(0.0) && largest_distance(q, scratch->starts[other].p, targets) < DUPLICATE_PX;
    SYNC();
    REAL weight = MATH(exp)(R(-0.5) * (work->misfits[v] - work->misfits[best]));
    for (int other = 0; other < v; other++) weight = work->duplicate[other] ? R(0.0) : weight;
    if (LANE == 0) work->weights[v] = weight;
    total += weight;
    SYNC();
  }
  for (int k = LANE; k < targets; k += LANES) {
    REAL shared = R(0.0);
    for (int v = 0; v < variants; v++)
      if (nearest_distance(p + PARAMETERS * k, scratch->starts[v].p, targets) < AGREEMENT_PX) shared += work->weights[v];
    work->agreed[k] = shared / total;
  }
  SYNC();
}

/* Continues the fit of one of the starts, in place. */
DEVICE void fit_start(Job job, int targets, int v, int steps) {
  Start *start = &job.scratch->starts[v];
  const int n = PARAMETERS * targets;
  copy(start->p, work->points[0].p, n);
  SYNC();
  const FitEnd end = fit(job, targets, steps);
  copy(work->points[end.at].p, start->p, n);
  copy(work->points[end.at].matrix, start->matrix, n * (n + 1) / 2);
  if (LANE == 0) work->misfits[v] = end.misfit, work->done[v] = end.done;
  SYNC();
}

DEVICE int best_start(int variants) {
  int best = 0;
  for (int v = 1; v < variants; v++) best = work->misfits[v] < work->misfits[best] ? v : best;
  return best;
}

/* Fits from every start; returns the one of the best solution. Fills work's agreed. */
NOINLINE int best_fit(Job job, int targets, int variants, REAL required) {
  for (int v = 0; v < variants; v++) fit_start(job, targets, v, FIRST_STEPS);
  int best = best_start(variants);
  if (evidence(job, &job.scratch->starts[best], work->misfits[best], targets) >= required - HOPELESS_DEFICIT) {
    const int first = best;
    REAL limit = HUGE_MISFIT;
    for (int turn = -1; turn < variants; turn++) {
      const int v = turn < 0 ? first : turn;
      if (!work->done[v] && work->misfits[v] < limit) fit_start(job, targets, v, STEPS);
      limit = work->misfits[best_start(variants)] + FINISH_MISFIT;
    }
    best = best_start(variants);
  }
  agreement(job.scratch, targets, variants, best);
  return best;
}

/* Whether the amplitude prior rules out that `targets` targets give the light of a solution of `found` targets. */
NOINLINE int light_rules_out(const Priors *priors, const Start *solution, int found, int targets) {
  const REAL mean = priors->amplitude_dn, precision = priors->amplitude;
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
  return away * away / variance > R(2.0) * RULED_OUT_EVIDENCE;
}

/* Fills parts: `whole` targets p, the brightest split in two. */
DEVICE void split_brightest(const REAL *p, int whole, Moments found, REAL *parts) {
  const REAL angle = angle_of(found), x = SPLIT_PX * MATH(cos)(angle), y = SPLIT_PX * MATH(sin)(angle);
  int brightest = 0;
  for (int k = 1; k < whole; k++) brightest = p[PARAMETERS * k + 4] > p[PARAMETERS * brightest + 4] ? k : brightest;
  for (int i = LANE; i < PARAMETERS * (whole + 1); i += LANES) {
    const int k = i / PARAMETERS, u = i % PARAMETERS, last = k == whole;
    const REAL value = p[PARAMETERS * (last ? brightest : k) + u], side = last ? R(-1.0) : R(1.0);
    const REAL moved = u == 0 ? value + side * x : u == 1 ? value + side * y : u == 4 ? R(0.5) * value : value;
    parts[i] = last || k == brightest ? moved : value;
  }
}

/* Fills whole: `parts` targets p, the nearest two merged. */
DEVICE void merge_nearest(const REAL *p, int parts, REAL *whole) {
  int first = 0, second = 1;
  REAL least_apart = INFINITE;
  ROLLED for (int i = 0; i < parts; i++)
    ROLLED for (int j = 0; j < i; j++) {
      const REAL x = p[PARAMETERS * i] - p[PARAMETERS * j], y = p[PARAMETERS * i + 1] - p[PARAMETERS * j + 1];
      if (x * x + y * y < least_apart) first = j, second = i, least_apart = x * x + y * y;
    }
  const REAL *one = p + PARAMETERS * first, *other = p + PARAMETERS * second;
  const REAL light = larger(one[4] + other[4], R(1e-9));
  for (int i = LANE; i < PARAMETERS * (parts - 1); i += LANES) {
    const int k = i / PARAMETERS, u = i % PARAMETERS;
    const REAL both = u == 4 ? light : (one[4] * one[u] + other[4] * other[u]) / light;
    whole[i] = k == first ? both : p[PARAMETERS * (k < second ? k : k + 1) + u];
  }
}

/* Fills the starts of a number of targets, reached from one less (direction 1) or one more (-1); returns their number. */
NOINLINE int fill_starts(Job job, int targets, int direction, Moments found) {
  const Region *region = job.region;
  REAL *first = job.scratch->starts[0].p;
  int variants = 1;
  if (region->warm_solutions[targets][0][4] != R(0.0))
    copy(&region->warm_solutions[targets][0][0], first, PARAMETERS * targets);
  else {
    const int grown = direction && region->hint_count != targets;
    variants = grown && job.priors->start_count == 1 ? 0 : ellipse_starts(job, targets, found);
    if (grown) {
      const REAL *p = &job.result->solutions[targets - direction][0][0];
      REAL *one_more = job.scratch->starts[variants++].p;
      if (direction > 0)
        split_brightest(p, targets - 1, found, one_more);
      else
        merge_nearest(p, targets + 1, one_more);
    }
  }
  if (region->hint_count == targets) copy(&region->hint[0][0], job.scratch->starts[variants++].p, PARAMETERS * targets);
  SYNC();
  return variants;
}

/* Fits a number of targets and stores its log evidence and solution; returns the best start. */
NOINLINE int fit_number(Job job, int targets, int direction, Moments found) {
  const int variants = fill_starts(job, targets, direction, found);
  const REAL odds = job.region->odds[targets], required = direction ? work->logs[targets - direction] - odds : -INFINITE;
  const int best = best_fit(job, targets, variants, required);
  const Start *solution = &job.scratch->starts[best];
  const REAL log = evidence(job, solution, work->misfits[best], targets) + odds;
  copy(solution->p, &job.result->solutions[targets][0][0], PARAMETERS * targets);
  if (LANE == 0) work->logs[targets] = log;
  SYNC();
  return best;
}

DEVICE void keep_best(Job job, int start, int targets) {
  const int n = PARAMETERS * targets;
  copy(job.scratch->starts[start].p, job.scratch->best.p, n);
  copy(job.scratch->starts[start].matrix, job.scratch->best.matrix, n * (n + 1) / 2);
  copy(work->agreed, work->best_agreed, targets);
  SYNC();
}

DEVICE REAL highest_log(int from) {
  REAL highest = work->logs[from];
  for (int k = from + 1; k <= MOST; k++) highest = larger(highest, work->logs[k]);
  return highest;
}

/* Returns the number of targets; fills scratch's best with the solution, work's best_agreed, and work's logs. */
DEVICE int search(Job job) {
  const Moments found = light_moments(job);
  for (int k = LANE; k <= MOST; k += LANES) work->logs[k] = -INFINITE;
  int guess = job.region->first_number;
  const REAL typical = larger(job.priors->amplitude_dn, R(1.0) / MATH(sqrt)(job.priors->amplitude));
  if (guess == 0) guess = (int)smaller(larger(MATH(rint)(found.light / typical), R(1.0)), R(MOST));
  int number = guess;
  keep_best(job, fit_number(job, guess, 0, found), guess);
  for (int direction = 1; direction >= -1; direction -= 2) {
    int targets = guess + direction;
    while (1 <= targets && targets <= MOST && !light_rules_out(job.priors, &job.scratch->best, number, targets)) {
      const int start = fit_number(job, targets, direction, found);
      if (work->logs[targets] <= work->logs[targets - direction]) break;
      if (work->logs[targets] >= highest_log(0)) {
        number = targets;
        keep_best(job, start, targets);
      }
      targets += direction;
    }
  }
  const REAL dark = R(-0.5) * normal_equations(job, 0, 0);
  if (LANE == 0) work->logs[0] = dark;
  SYNC();
  return dark > highest_log(1) ? 0 : number;
}

/* Fills the result's odds, relative to those of `best` targets. */
DEVICE void carry_evidence_forward(Job job, int best) {
  const REAL *odds = job.region->odds;
  for (int k = 1; k <= MOST; k++) {
    const REAL *solution = &job.result->solutions[k][0][0];
    REAL log = -INFINITE;
    if (work->logs[k] > -INFINITE && solution[4] != R(0.0)) {
      copy(solution, work->points[0].p, PARAMETERS * k);
      SYNC();
      fill_profiles(job, work->points[0].p, k, 1);
      const REAL misfit = residuals(job.region, work->points[0].p, k, 1);
      log = R(-0.5) * misfit - OVERFIT_PENALTY * (REAL)k / R(FRAMES);
    }
    if (LANE == 0) work->frame_evidence[k] = log;
  }
  SYNC();
  for (int k = LANE; k <= MOST; k += LANES) {
    const REAL *logs = work->frame_evidence, gain = k && logs[k] > -INFINITE ? logs[k] - logs[best] : R(0.0);
    const REAL moved = smaller(larger(ODDS_DECAY * (odds[k] - odds[best] + gain), -MAX_ODDS), MAX_ODDS);
    job.result->odds[k] = k ? moved : odds[0];
  }
}

/* Fills the result's cov and amplitude_sd; a lane solves for one column of the inverse. */
NOINLINE void fill_covariances(Job job, int targets) {
  const REAL nan_ = MATH(nan)(""), by_x = R(12.0) / R(WIDTH * WIDTH), by_y = R(12.0) / R(HEIGHT * HEIGHT);
  const int n = PARAMETERS * targets;
  for (int i = LANE; i < n; i += LANES)
    work->diagonal[i] = i % PARAMETERS == 0 ? by_x : i % PARAMETERS == 1 ? by_y : R(0.0);
  SYNC();
  const int certain = cholesky(job.scratch->best.matrix, 0, n, R(0.0), 1);
  ROLLED for (int c = LANE; c < 3 * targets && certain; c += LANES) {
    REAL *column = work->temp.columns[c];
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
    const REAL *x = work->temp.columns[3 * k] + PARAMETERS * k, *y = work->temp.columns[3 * k + 1] + PARAMETERS * k;
    const REAL *a = work->temp.columns[3 * k + 2] + PARAMETERS * k;
    REAL xx = nan_, xy = nan_, yy = nan_, sd = nan_;
    if (certain) {
      sd = MATH(sqrt)(a[4]);
      const REAL both = (x[1] + y[0]) / 2;
      if (x[0] * y[1] > both * both && larger(larger(x[0], y[1]), both) < INFINITE) xx = x[0], xy = both, yy = y[1];
    }
    job.result->cov[k][k][0][0] = xx, job.result->cov[k][k][1][1] = yy;
    job.result->cov[k][k][0][1] = job.result->cov[k][k][1][0] = xy;
    job.result->amplitude_sd[k] = sd;
    ROLLED for (int j = k + 1; j < targets; j++) {
      const REAL *there[2] = {x + PARAMETERS * (j - k), y + PARAMETERS * (j - k)};
      ROLLED for (int u = 0; u < 2; u++)
        ROLLED for (int v = 0; v < 2; v++)
          job.result->cov[k][j][u][v] = job.result->cov[j][k][v][u] = certain ? there[u][v] : nan_;
    }
  }
}

/* Fills the result's reduced_chi_square. */
NOINLINE void reduced_chi_square(Job job, int targets) {
  const REAL *p = job.scratch->best.p, noise = job.region->noise;
  const REAL floor = larger(job.region->limits[0], UNKNOWN), ceiling = job.region->limits[1];
  REAL single = R(0.0), stacked = R(0.0), frame_pixels = R(0.0), pixels = R(0.0);
  SYNC();
  fill_profiles(job, p, targets, FRAMES);
  for (int i = LANE; i < HEIGHT * WIDTH; i += LANES) {
    REAL summed = R(0.0), variance = R(0.0);
    ROLLED for (int t = 0; t < FRAMES; t++) {
      const REAL seen = job.region->images[t][i / WIDTH][i % WIDTH], light = light_at(p, targets, t, i / WIDTH, i % WIDTH);
      if (light > MIN_LIGHT * noise && floor < seen && seen < ceiling) {
        const REAL away = seen - light, spread = noise * noise + job.region->shot * light;
        single += away * away / spread;
        summed += away, variance += spread, frame_pixels += R(1.0);
      }
    }
    if (variance > R(0.0)) stacked += summed * summed / variance, pixels += R(1.0);
  }
  single = sum(single), stacked = sum(stacked), frame_pixels = sum(frame_pixels), pixels = sum(pixels);
  if (LANE == 0) {
    job.result->reduced_chi_square[0] = single / larger(frame_pixels, R(1.0));
    job.result->reduced_chi_square[1] = stacked / larger(pixels, R(1.0));
  }
}

/* Fills work's row_of and column_of: row and column of each entry of a triangle. */
DEVICE void fill_triangle_indices(void) {
  for (int i = LANE; i <= MAX_PARAMETERS; i += LANES)
    for (int j = 0; j <= i; j++) {
      work->row_of[AT(i, j)] = (unsigned char)i;
      work->column_of[AT(i, j)] = (unsigned char)j;
    }
}

DEVICE void clear_result(Result *result) {
  for (int i = LANE; i < MOST * PARAMETERS; i += LANES) (&result->targets[0][0])[i] = R(0.0);
  for (int i = LANE; i < MOST * MOST * 4; i += LANES) (&result->cov[0][0][0][0])[i] = R(0.0);
  for (int i = LANE; i < MOST; i += LANES) result->amplitude_sd[i] = result->probability[i] = R(0.0);
  for (int i = LANE; i <= MOST; i += LANES) result->odds[i] = R(0.0);
  if (LANE == 0) result->reduced_chi_square[0] = result->reduced_chi_square[1] = R(0.0);
  for (int i = LANE; i < (MOST + 1) * MOST * PARAMETERS; i += LANES) (&result->solutions[0][0][0])[i] = R(0.0);
}

/* Fills the result's probability: the weight of all numbers of targets whose solutions share each target of the best. */
DEVICE void target_probabilities(Job job, int number) {
  const REAL highest = highest_log(0);
  REAL total = R(0.0);
  for (int n = 0; n <= MOST; n++) total += work->logs[n] > -INFINITE ? MATH(exp)(work->logs[n] - highest) : R(0.0);
  for (int k = LANE; k < number; k += LANES) {
    const REAL *target = job.scratch->best.p + PARAMETERS * k;
    REAL shared = R(0.0);
    for (int n = 1; n <= MOST; n++) {
      if (!(work->logs[n] > -INFINITE)) continue;
      const REAL there = nearest_distance(target, &job.result->solutions[n][0][0], n) < AGREEMENT_PX ? R(1.0) : R(0.0);
      shared += MATH(exp)(work->logs[n] - highest) * (n == number ? work->best_agreed[k] : there);
    }
    job.result->probability[k] = shared / total;
  }
}

DEVICE void search_region(Job job) {
  fill_triangle_indices();
  clear_result(job.result);
  SYNC();
  const int number = search(job);
  fill_covariances(job, number);
  copy(job.scratch->best.p, &job.result->targets[0][0], PARAMETERS * number);
  target_probabilities(job, number);
  if (LANE == 0) job.result->number = number;
  if (number == 0) return;
  reduced_chi_square(job, number);
  carry_evidence_forward(job, number);
}

#ifdef __CUDACC__
/* global_work: each block's Work where it does not fit in shared memory. */
extern "C" __global__ void __launch_bounds__(LANES)
    search_regions(const Priors *priors, const Region *regions, Result *results, Scratch *scratch, Work *global_work) {
#if !IN_SHARED
  if (LANE == 0) work = global_work + BLOCK;
  __syncthreads();
#endif
  const Job job = {priors + regions[BLOCK].psf, regions + BLOCK, results + BLOCK, scratch + BLOCK};
  search_region(job);
}
#endif
