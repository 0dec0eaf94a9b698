// SPDX-License-Identifier: GPL-2.0
/*
 * One random call: made, and checked
 *
 * Whatever the call, these hold: it ends with an errno that its description
 * lists; nothing around the argument and its array is written to; a call that
 * fails writes nothing but a count; and what is written back is the argument as
 * a whole, with zeros in its holes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_hostile.h"

#define NONE 0xff

/* Where each field is in the argument, for both word sizes. */
struct layout {
	uint16_t nr_bytes;
	uint8_t id, dev, count, offset, length, timeout, pointer;
};

struct kind {
	const char *name;
	void (*make)(struct caller *caller, struct call *call);
	unsigned int share;	/* of all calls */
	unsigned int request[2];	/* 64-bit, 32-bit */
	struct layout layout[2];
	bool is_written_back;	/* on success */
	int errno_too_small;	/* the count is written back with this one */
	int errnos[12];		/* the others that are listed */
};

/* Numbers as they were frozen; fields in the order of struct layout. */
static const struct kind kinds[CALL_UNKNOWN] = {
	{
		"VERSION", make_version, 3, { 0x40085600, 0x40085600 },
		{ { 8, NONE, NONE, NONE, NONE, NONE, NONE, NONE },
		  { 8, NONE, NONE, NONE, NONE, NONE, NONE, NONE } },
		true, 0, { 0 },
	}, {
		"TRACKER_REMOVE", make_tracker_remove, 1,
		{ 0x40085601, 0x40085601 },
		{ { 8, NONE, 0, NONE, NONE, NONE, NONE, NONE },
		  { 8, NONE, 0, NONE, NONE, NONE, NONE, NONE } },
		false, 0, { ENODATA, EBUSY },
	}, {
		"TRACKER_COLLECT", make_tracker_collect, 10,
		{ 0x40105602, 0x40085602 },
		{ { 16, NONE, NONE, 0, NONE, NONE, NONE, 8 },
		  { 8, NONE, NONE, 0, NONE, NONE, NONE, 4 } },
		true, ENOBUFS, { 0 },
	}, {
		"TRACKER_READ_CBT_MAP", make_read_map, 16,
		{ 0x80185603, 0x80145603 },
		{ { 24, NONE, 0, NONE, 8, 12, NONE, 16 },
		  { 20, NONE, 0, NONE, 8, 12, NONE, 16 } },
		false, 0, { ENODATA, EPERM, EINVAL },
	}, {
		"TRACKER_MARK_DIRTY_BLOCKS", make_mark, 14,
		{ 0x80185604, 0x80105604 },
		{ { 24, NONE, 0, 8, NONE, NONE, NONE, 16 },
		  { 16, NONE, 0, 8, NONE, NONE, NONE, 12 } },
		false, 0, { ENODEV, EINVAL, E2BIG },
	}, {
		"SNAPSHOT_CREATE", make_create, 5, { 0x40205605, 0x40185605 },
		{ { 32, 16, NONE, 0, NONE, NONE, NONE, 8 },
		  { 24, 8, NONE, 0, NONE, NONE, NONE, 4 } },
		true, 0, { EINVAL, EALREADY, ENODEV, ENXIO, EOPNOTSUPP },
	}, {
		"SNAPSHOT_DESTROY", make_destroy, 2, { 0x80105606, 0x80105606 },
		{ { 16, 0, NONE, NONE, NONE, NONE, NONE, NONE },
		  { 16, 0, NONE, NONE, NONE, NONE, NONE, NONE } },
		false, 0, { ENODEV },
	}, {
		"SNAPSHOT_APPEND_STORAGE", make_append, 14,
		{ 0x40285607, 0x40205607 },
		{ { 40, 0, 16, 24, NONE, NONE, NONE, 32 },
		  { 32, 0, 16, 24, NONE, NONE, NONE, 28 } },
		false, 0, { ESRCH, ENODEV, ENXIO, EROFS, EINVAL, EBUSY, E2BIG },
	}, {
		"SNAPSHOT_TAKE", make_take, 4, { 0x80105608, 0x80105608 },
		{ { 16, 0, NONE, NONE, NONE, NONE, NONE, NONE },
		  { 16, 0, NONE, NONE, NONE, NONE, NONE, NONE } },
		false, 0, { ESRCH, EALREADY, ENODEV, ENXIO, ETIMEDOUT },
	}, {
		"SNAPSHOT_COLLECT", make_snapshot_collect, 10,
		{ 0x40105609, 0x40085609 },
		{ { 16, NONE, NONE, 0, NONE, NONE, NONE, 8 },
		  { 8, NONE, NONE, 0, NONE, NONE, NONE, 4 } },
		true, ENODATA, { 0 },
	}, {
		"SNAPSHOT_COLLECT_IMAGES", make_collect_images, 10,
		{ 0x4020560a, 0x4018560a },
		{ { 32, 0, NONE, 16, NONE, NONE, NONE, 24 },
		  { 24, 0, NONE, 16, NONE, NONE, NONE, 20 } },
		true, ENODATA, { ESRCH, ENODEV },
	}, {
		"SNAPSHOT_WAIT_EVENT", make_wait_event, 6,
		{ 0x5000560b, 0x5000560b },
		{ { 4096, 0, NONE, NONE, NONE, NONE, 16, NONE },
		  { 4096, 0, NONE, NONE, NONE, NONE, 16, NONE } },
		true, 0, { ESRCH, ENOENT, EINTR },
	},
};

#define SHARE_UNKNOWN 4

uint64_t pick(struct caller *caller, uint64_t limit)
{
	return random_below(&caller->random, limit);
}

bool chance(struct caller *caller, unsigned int one_of)
{
	return !pick(caller, one_of);
}

static bool errnos_have(const struct errnos *errnos, int error)
{
	unsigned int i;

	for (i = 0; i < errnos->nr; i++)
		if (errnos->list[i] == error)
			return true;
	return false;
}

static void errnos_add(struct errnos *errnos, int error)
{
	if (!errnos_have(errnos, error) && errnos->nr < ARRAY_SIZE(errnos->list))
		errnos->list[errnos->nr++] = error;
}

void must_fail(struct call *call, int error)
{
	errnos_add(&call->must, error);
}

void may_fail(struct call *call, int error)
{
	errnos_add(&call->may, error);
}

void fails_by_state(struct caller *caller, struct call *call, int error)
{
	errnos_add(caller->is_alone ? &call->must : &call->may, error);
}

bool call_must_fail(const struct call *call)
{
	return call->must.nr;
}

/* --- complaints --- */

#define MAX_COMPLAINTS_PRINTED 25

static void print_call(const struct caller *caller, const struct call *call)
{
	char text[300];
	size_t length;
	unsigned int i;

	length = snprintf(text, sizeof(text),
			  "  call %llu: %s%s (0x%08x) count %u offset %u length %u target %d snapshot %d returned %d, expected",
			  (unsigned long long)caller->nr_calls,
			  call->kind < CALL_UNKNOWN ? kinds[call->kind].name :
						      "unknown",
			  call->is_compat ? " of 32 bits" : "", call->request,
			  call->args.count, call->args.offset, call->args.length,
			  call->target, call->snapshot, call->ret);
	for (i = 0; i < call->must.nr && length < sizeof(text); i++)
		length += snprintf(text + length, sizeof(text) - length, " -%s",
				   strerrorname_np(call->must.list[i]));
	if (!call->must.nr && length < sizeof(text))
		length += snprintf(text + length, sizeof(text) - length, " success");
	for (i = 0; i < call->may.nr && length < sizeof(text); i++)
		length += snprintf(text + length, sizeof(text) - length, " (-%s)",
				   strerrorname_np(call->may.list[i]));
	ktap_note("%s", text);
}

void complain(const struct caller *caller, const struct call *call,
	      const char *format, ...)
{
	char text[300];
	va_list args;

	if (stats_add_complaint() >= MAX_COMPLAINTS_PRINTED)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ktap_note("%s", text);
	if (call)
		print_call(caller, call);
}

/* --- making it --- */

static const struct layout *layout_of(const struct call *call)
{
	return &kinds[call->kind].layout[call->is_compat];
}

static void put(uint8_t *bytes, uint8_t at, const void *field, size_t nr_bytes)
{
	if (at != NONE)
		memcpy(bytes + at, field, nr_bytes);
}

/* Fields only: what is between them stays as it is. */
static void encode(const struct call *call, const struct call_args *args,
		   uint8_t *bytes)
{
	const struct layout *layout = layout_of(call);

	put(bytes, layout->id, &args->id, sizeof(args->id));
	put(bytes, layout->dev, &args->dev, sizeof(args->dev));
	put(bytes, layout->count, &args->count, 4);
	put(bytes, layout->offset, &args->offset, 4);
	put(bytes, layout->length, &args->length, 4);
	put(bytes, layout->timeout, &args->timeout_ms, 4);
	put(bytes, layout->pointer, &args->pointer, call->is_compat ? 4 : 8);
}

/* The number that decides on the size of an array may change meanwhile. */
static void let_meddle(struct caller *caller, const struct call *call)
{
	const struct layout *layout;
	uint8_t at;

	if (call->array.is_wild && call->kind != blk_snap_ioctl_snapshot_append_storage)
		arena_let_meddle(&caller->array_arena, call->array.own,
				 call->array.nr_bytes / 4);
	if (call->kind == CALL_UNKNOWN || !call->arg.is_wild)
		return;
	layout = layout_of(call);
	at = layout->count != NONE ? layout->count : layout->length;
	if (at != NONE)
		arena_let_meddle(&caller->arg_arena, call->arg.own + at, 1);
}

static void end_meddling(struct caller *caller, const struct call *call)
{
	if (call->array.is_wild)
		arena_let_meddle(&caller->array_arena, NULL, 0);
	if (call->arg.is_wild)
		arena_let_meddle(&caller->arg_arena, NULL, 0);
}

static bool has_compat;

/* User-mode Linux serves programs of one word size only. */
void calls_set_up(void)
{
#ifdef __x86_64__
	has_compat = shell("grep -q 'User Mode Linux' /proc/cpuinfo");
#endif
	if (!has_compat)
		ktap_note("all calls are of one word size here");
}

#ifdef __x86_64__
/* ioctl(), as 32-bit programs enter the kernel: addresses are cut to 32 bits. */
static int compat_ioctl(int fd, unsigned int request, void *arg)
{
	long ret = 54;		/* its number there */

	__asm__ volatile("int $0x80"
			 : "+a" (ret)
			 : "b" ((long)fd), "c" ((long)request),
			   "d" ((unsigned long)arg & 0xffffffffUL)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#endif

static int make_ioctl(int fd, const struct call *call)
{
	int ret;

#ifdef __x86_64__
	if (call->is_compat)
		return compat_ioctl(fd, call->request, call->arg.user);
#endif
	ret = syscall(SYS_ioctl, fd, (unsigned long)call->request, call->arg.user);
	return ret < 0 ? -errno : ret;
}

static unsigned int choose_kind(struct caller *caller)
{
	unsigned int kind, sum = SHARE_UNKNOWN;
	uint64_t share;

	for (kind = 0; kind < CALL_UNKNOWN; kind++)
		sum += kinds[kind].share;
	share = pick(caller, sum);
	for (kind = 0; kind < CALL_UNKNOWN; kind++) {
		if (share < kinds[kind].share)
			break;
		share -= kinds[kind].share;
	}
	return kind;
}

static bool is_a_number(unsigned int request, bool is_compat)
{
	unsigned int kind;

	for (kind = 0; kind < CALL_UNKNOWN; kind++)
		if (kinds[kind].request[is_compat] == request)
			return true;
	return false;
}

/* A number that is nearly right, or one of the other word size. */
static unsigned int strange_request(struct caller *caller, bool is_compat)
{
	const struct kind *kind = &kinds[pick(caller, CALL_UNKNOWN)];
	unsigned int request = kind->request[pick(caller, 2)];

	do {
		switch (pick(caller, 6)) {
		case 0:
			request = kind->request[!is_compat];
			break;
		case 1:
			request ^= 1U << pick(caller, 8);
			break;
		case 2:
			request ^= 1U << (_IOC_SIZESHIFT + pick(caller, 14));
			break;
		case 3:
			request ^= 1U << (_IOC_DIRSHIFT + pick(caller, 2));
			break;
		case 4:
			request = _IOWR(BLK_SNAP, pick(caller, 256), int);
			break;
		default:
			/* Another driver's, but none that every file knows. */
			request = _IOC(pick(caller, 4), 'W', pick(caller, 256),
				       pick(caller, 1 << _IOC_SIZEBITS));
			break;
		}
	} while (is_a_number(request, is_compat));
	return request;
}

static void fill_argument(struct call *call)
{
	uint8_t bytes[4096];

	if (call->arg.own)
		encode(call, &call->args, call->arg.own);
	memset(bytes, POISON, sizeof(bytes));
	encode(call, &call->args, bytes);
	if (call->arg.head)
		memcpy(call->arg.head, bytes, call->arg.nr_head_bytes);
}

static void place_argument(struct caller *caller, struct call *call,
			   size_t nr_bytes)
{
	memory_place(caller, &caller->arg_arena, nr_bytes, &call->arg);
	if (call->kind == CALL_UNKNOWN)
		return;
	fill_argument(call);
	if (!call->arg.is_readable && kinds[call->kind].make != make_version)
		must_fail(call, EFAULT);
	if (!call->arg.is_writable && kinds[call->kind].is_written_back)
		must_fail(call, EFAULT);
	memory_settle(&caller->arg_arena, &call->arg);
}

static void prepare_call(struct caller *caller, struct call *call)
{
	memset(call, 0, sizeof(*call));
	call->snapshot = -1;
	call->target = -1;
	call->kind = choose_kind(caller);
	call->is_compat = sizeof(void *) == 4 || (has_compat && chance(caller, 3));
	if (call->kind == CALL_UNKNOWN) {
		call->request = strange_request(caller, call->is_compat);
		must_fail(call, ENOTTY);
		place_argument(caller, call, 64);
		return;
	}
	call->request = kinds[call->kind].request[call->is_compat];
	kinds[call->kind].make(caller, call);
	place_argument(caller, call, layout_of(call)->nr_bytes);
}

/* --- checking it --- */

static bool is_listed(const struct call *call, int error)
{
	const struct kind *kind = &kinds[call->kind];
	unsigned int i;

	if (call->kind == CALL_UNKNOWN)
		return error == ENOTTY;
	if (error == EFAULT || (error && error == kind->errno_too_small))
		return true;
	for (i = 0; i < ARRAY_SIZE(kind->errnos) && kind->errnos[i]; i++)
		if (kind->errnos[i] == error)
			return true;
	return false;
}

static bool is_uncertain(const struct call *call)
{
	return call->arg.is_wild || call->array.is_wild;
}

static void check_result(const struct caller *caller, const struct call *call)
{
	int error = call->ret < 0 ? -call->ret : 0;

	if (error && !is_listed(call, error)) {
		complain(caller, call, "an errno that is not listed for this call");
		return;
	}
	if (is_uncertain(call))
		return;
	if (!error) {
		if (call->must.nr)
			complain(caller, call, "a call that must fail succeeded");
		return;
	}
	if (errnos_have(&call->must, error) || errnos_have(&call->may, error))
		return;
	/* Of many, nobody knows what the others have done. */
	if (!caller->is_alone && error != EFAULT)
		return;
	complain(caller, call, "another errno than the right one");
}

/* What is in the argument when the call has written it back. */
static void expected_argument(const struct call *call, uint8_t *bytes)
{
	const struct layout *layout = layout_of(call);
	struct call_args args = call->args;

	memset(bytes, 0, layout->nr_bytes);
	/* What the call answers was checked, or is by the model. */
	if (layout->count != NONE)
		memcpy(&args.count, call->arg.own + layout->count, 4);
	if (call->kind == blk_snap_ioctl_snapshot_create)
		memcpy(&args.id, call->arg.own + layout->id, sizeof(args.id));
	encode(call, &args, bytes);
}

static bool arg_has_changed(const struct call *call)
{
	uint8_t bytes[4096];

	memset(bytes, POISON, layout_of(call)->nr_bytes);
	encode(call, &call->args, bytes);
	return memcmp(bytes, call->arg.own, layout_of(call)->nr_bytes);
}

static bool is_version(const uint8_t *bytes)
{
	static const struct blk_snap_version version = { .major = 1 };

	return !memcmp(bytes, &version, sizeof(version));
}

/* An event is of a known kind, with nothing behind its data. */
static bool is_event(const struct call *call)
{
	const struct blk_snap_snapshot_event *event = (void *)call->arg.own;
	struct blk_snap_event_low_free_space low;
	struct blk_snap_event_corrupted corrupted;
	size_t nr_bytes = sizeof(low);
	bool is_right;

	memcpy(&low, event->data, sizeof(low));
	is_right = event->code == blk_snap_event_code_low_free_space &&
		   low.requested_nr_sect >= 2048;
	if (event->code == blk_snap_event_code_corrupted) {
		memcpy(&corrupted, event->data, sizeof(corrupted));
		nr_bytes = sizeof(corrupted);
		is_right = corrupted.err_code > 0 && corrupted.err_code < 4096;
	}
	return is_right && event->time_label > 0 &&
	       (uint64_t)event->time_label <= now_ns() &&
	       !memcmp(&event->id, &call->args.id, sizeof(event->id)) &&
	       event->timeout_ms == call->args.timeout_ms &&
	       is_filled_with(event->data + nr_bytes, 0,
			      sizeof(event->data) - nr_bytes);
}

static void check_written_back(const struct caller *caller,
			       const struct call *call)
{
	uint8_t expected[4096];

	if (call->kind == blk_snap_ioctl_version) {
		if (!is_version(call->arg.own))
			complain(caller, call, "a version that is none");
	} else if (call->kind == blk_snap_ioctl_snapshot_wait_event) {
		if (!is_event(call))
			complain(caller, call, "an event that is none");
	} else {
		expected_argument(call, expected);
		if (memcmp(expected, call->arg.own, layout_of(call)->nr_bytes))
			complain(caller, call, "bytes in the answer that are wrong");
	}
}

static bool is_written_back(const struct call *call)
{
	const struct kind *kind = &kinds[call->kind];

	if (call->ret >= 0)
		return kind->is_written_back;
	return kind->errno_too_small && call->ret == -kind->errno_too_small;
}

static void check_argument(const struct caller *caller, const struct call *call)
{
	if (!memory_is_intact_around(&call->arg))
		complain(caller, call, "written to around the argument");
	if (call->kind == CALL_UNKNOWN || !call->arg.own || call->arg.is_wild)
		return;
	if (is_written_back(call))
		check_written_back(caller, call);
	else if (arg_has_changed(call))
		complain(caller, call, "a call without an answer gave one");
}

static void check_array(const struct caller *caller, const struct call *call)
{
	const struct memory *array = &call->array;

	/* How much was asked for the meddler may have changed. */
	if (call->arg.is_wild)
		return;
	if (!memory_is_intact_around(array))
		complain(caller, call, "written to around the array");
	if (!array->own || array->is_wild || !call->room)
		return;
	/* A map may vanish while it is being copied. */
	if (call->kind == blk_snap_ioctl_tracker_read_cbt_map && !caller->is_alone)
		return;
	if (call->ret < 0 && call->ret != -EFAULT &&
	    !is_filled_with(array->own, POISON, call->room))
		complain(caller, call, "a call that failed filled its array");
}

static void renew_fd(struct caller *caller)
{
	static const int modes[] = { O_RDWR, O_RDONLY, O_WRONLY };
	unsigned int i = pick(caller, ARRAY_SIZE(modes));
	int fd = open("/dev/" BLK_SNAP_CTL, modes[i] | O_CLOEXEC);

	if (fd < 0)
		return;
	close(caller->fds[i]);
	caller->fds[i] = fd;
}

static void hash_call(struct caller *caller, const struct call *call)
{
	caller->hash = (caller->hash ^ call->request) * 0x100000001b3ULL;
	caller->hash = (caller->hash ^ (uint32_t)call->ret) * 0x100000001b3ULL;
}

/**
 * caller_make_call() - make a random call and check what comes of it
 * @caller:	who makes it
 */
void caller_make_call(struct caller *caller)
{
	struct call call;

	if (chance(caller, 512))
		renew_fd(caller);
	prepare_call(caller, &call);
	let_meddle(caller, &call);
	call.ret = make_ioctl(caller->fds[pick(caller, NR_CALLER_FDS)], &call);
	end_meddling(caller, &call);
	caller->nr_calls++;
	stats_count(call.kind, call.ret);
	hash_call(caller, &call);
	check_result(caller, &call);
	check_argument(caller, &call);
	check_array(caller, &call);
	if (!is_uncertain(&call))
		check_answer(caller, &call);
	model_apply(caller, &call);
	if (caller->is_borrowing)
		honest_return(caller);
}

static int open_node(int mode)
{
	int fd = open("/dev/" BLK_SNAP_CTL, mode | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	ktap_note("/dev/" BLK_SNAP_CTL ": %s", strerror(errno));
	exit(KTAP_FAIL);
}

void caller_create(struct caller *caller, uint64_t seed, int inherited_fd,
		   unsigned int slow_page)
{
	memset(caller, 0, sizeof(*caller));
	random_init(&caller->random, seed);
	caller->hash = 0xcbf29ce484222325ULL;
	caller->fds[0] = open_node(O_RDWR);
	caller->fds[1] = open_node(O_RDONLY);
	caller->fds[2] = open_node(O_WRONLY);
	caller->fds[3] = dup(caller->fds[0]);
	caller->fds[4] = dup(inherited_fd);
	arena_create(&caller->arg_arena, slow_page);
	arena_create(&caller->array_arena, slow_page + 1);
}

void caller_destroy(struct caller *caller)
{
	unsigned int i;

	for (i = 0; i < NR_CALLER_FDS; i++)
		close(caller->fds[i]);
	arena_destroy(&caller->arg_arena);
	arena_destroy(&caller->array_arena);
}
