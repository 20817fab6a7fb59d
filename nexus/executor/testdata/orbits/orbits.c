/* orbits follows bodies under gravity and writes where they end to /out/orbits.txt: a C
 * program that asks for whatever could differ from run to run and from machine to machine.
 * Its randomness draws the bodies, its clocks their names, its heap their order, and what
 * floating point leaves open (NaN, signed zero, the last bit of libm) is written out.
 *
 * orbits.wasm is made of it, with Debian's clang 14, lld and wasi-libc, by
 *
 *	clang --target=wasm32-wasi -O2 -ffp-contract=off -s -o orbits.wasm orbits.c -lm
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { bodies = 24, steps = 4000 };

struct body {
	double at[3], v[3], mass;
	struct body *next;
};

static double uniform(void) {
	uint64_t bits;
	if (getentropy(&bits, sizeof bits) != 0) {
		perror("getentropy");
		exit(1);
	}
	return (double)(bits >> 11) / 9007199254740992.0;
}

static struct body *make(void) {
	struct body *first = NULL;
	for (int i = 0; i < bodies; i++) {
		struct body *b = malloc(sizeof *b + (size_t)(uniform() * 4096)); /* where it lies depends on chance */
		if (b == NULL) {
			exit(2);
		}
		for (int d = 0; d < 3; d++) {
			b->at[d] = 2 * uniform() - 1;
			b->v[d] = uniform() - 0.5;
		}
		b->mass = 0.1 + uniform();
		b->next = first;
		first = b;
	}
	return first;
}

static void step(struct body *first, double dt) {
	for (struct body *a = first; a != NULL; a = a->next) {
		for (struct body *b = a->next; b != NULL; b = b->next) {
			double delta[3], square = 1e-3;
			for (int d = 0; d < 3; d++) {
				delta[d] = a->at[d] - b->at[d];
				square += delta[d] * delta[d];
			}
			double pull = dt / (square * sqrt(square));
			for (int d = 0; d < 3; d++) {
				a->v[d] -= delta[d] * b->mass * pull;
				b->v[d] += delta[d] * a->mass * pull;
			}
		}
	}
	for (struct body *a = first; a != NULL; a = a->next) {
		for (int d = 0; d < 3; d++) {
			a->at[d] += a->v[d] * dt;
		}
	}
}

static int by_address(const void *a, const void *b) {
	uintptr_t x = (uintptr_t)*(struct body *const *)a, y = (uintptr_t)*(struct body *const *)b;
	return (x > y) - (x < y);
}

static void show(FILE *out, const char *name, double value) {
	uint64_t bits;
	memcpy(&bits, &value, sizeof bits);
	fprintf(out, "%s %.17g %016llx\n", name, value, (unsigned long long)bits);
}

int main(int argc, char **argv) {
	struct timespec wall, mono;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	struct body *first = make(), *sorted[bodies];
	int n = 0;
	for (struct body *b = first; b != NULL; b = b->next) {
		sorted[n++] = b;
	}
	qsort(sorted, bodies, sizeof sorted[0], by_address);
	for (int i = 0; i < steps; i++) {
		step(first, 1e-4);
	}
	FILE *out = fopen("/out/orbits.txt", "w");
	if (out == NULL) {
		perror("/out/orbits.txt");
		return 3;
	}
	fprintf(out, "%lld.%09ld %lld.%09ld %d %s\n", (long long)wall.tv_sec, wall.tv_nsec, (long long)mono.tv_sec, mono.tv_nsec, argc, argc > 1 ? argv[1] : "");
	for (int i = 0; i < bodies; i++) {
		fprintf(out, "%p", (void *)sorted[i]);
		for (int d = 0; d < 3; d++) {
			fprintf(out, " %.17g", sorted[i]->at[d]);
		}
		fputc('\n', out);
	}
	volatile double zero = 0;
	show(out, "nan", zero / zero);
	show(out, "negated", -(zero / zero));
	show(out, "root", sqrt(-1 - zero));
	show(out, "zero", zero * -1);
	show(out, "sine", sin(1e22 + zero));
	show(out, "power", pow(1.0000001 + zero, 1e7));
	show(out, "gamma", tgamma(4.5 + zero));
	show(out, "fused", fma(1.1 + zero, 1.3, -1.43));
	if (fclose(out) != 0) {
		perror("/out/orbits.txt");
		return 4;
	}
	printf("done\n");
	return 0;
}
