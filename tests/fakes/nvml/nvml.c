/* A stand-in for the NVIDIA Management Library: libnvidia-ml.so.1 without a card.
 *
 * The file named by FAKE_NVML holds one `struct state`, mapped and shared; card.py writes it, and
 * its docstring says what each field means. FAKE_NVML.d/<device>/<pid> may hold "bytes linger_ms",
 * written by the process itself: its memory on that device. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEVICES = 8, PROCESSES = 32, FAULTS = 16, LISTED = 128, PATH = 512 };
enum { COMPUTE = 1, GRAPHICS = 2, HIDDEN = 4, STAYS = 8 };
enum {
	OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3,
	INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, VERSION_MISMATCH = 25, UNKNOWN = 999
};
#define MAGIC 0x31306c6d766e6b66ull
#define NOT_AVAILABLE UINT64_MAX
#define EXPORT __attribute__((visibility("default")))

struct process {
	uint32_t pid, flags;
	uint64_t bytes, linger_ms, died_ns;
};

struct fault {
	char call[48];
	int32_t device, code, times;
	uint32_t unused;
};

struct device {
	char name[96], uuid[96], bus[32];
	uint64_t total, reserved, base, energy_mj, energy_since_ns;
	uint32_t power_mw, limit_mw, celsius, busy, memory_busy, mig;
	struct process process[PROCESSES];
};

struct state {
	uint64_t magic;
	uint32_t sequence, devices, cuda, calls;
	char driver[80];
	struct fault fault[FAULTS];
	struct device device[DEVICES];
};
_Static_assert(sizeof(struct state) == 104 + 16 * 64 + 8 * (288 + 32 * 32), "card.py has it too");

static struct state *shared;
static char folder[PATH];
static int users;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* The writer makes the sequence odd while it writes. */
static struct device snapshot(unsigned index)
{
	struct device copy;
	uint32_t before, after;
	int patience = 1000000; /* a writer that died must not hang its readers */
	do {
		while (((before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE)) & 1) && --patience)
			sched_yield();
		copy = shared->device[index];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		after = __atomic_load_n(&shared->sequence, __ATOMIC_RELAXED);
	} while (before != after && --patience > 0);
	return copy;
}

/* The error this call is to fail with, or OK. Device -1 in the table means every device. */
static int planned(const char *call, int device)
{
	for (int i = 0; i < FAULTS; i++) {
		struct fault *fault = &shared->fault[i];
		if (fault->code == OK || strcmp(fault->call, call) != 0)
			continue;
		if (fault->device >= 0 && fault->device != device)
			continue;
		int left = __atomic_load_n(&fault->times, __ATOMIC_ACQUIRE);
		while (left > 0 && !__atomic_compare_exchange_n(&fault->times, &left, left - 1, 0,
								__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			;
		if (left != 0)
			return fault->code;
	}
	return OK;
}

static int enter(const char *call)
{
	if (!shared)
		return UNINITIALIZED;
	__atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
	return planned(call, -1);
}

static int enter_device(const char *call, void *handle, struct device *device)
{
	uintptr_t number = (uintptr_t)handle;
	if (!shared)
		return UNINITIALIZED;
	if (number < 1 || number > shared->devices)
		return INVALID_ARGUMENT;
	__atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
	*device = snapshot((unsigned)number - 1);
	return planned(call, (int)number - 1);
}

/* A zombie holds no memory on any device. */
static int alive(uint32_t pid)
{
	char path[64], line[256] = "";
	if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
		return 0;
	snprintf(path, sizeof path, "/proc/%u/stat", pid);
	FILE *file = fopen(path, "r");
	if (!file)
		return 0;
	char *read = fgets(line, sizeof line, file);
	fclose(file);
	char *end = read ? strrchr(line, ')') : NULL;
	return end && end[2] != 'Z' && end[2] != 'X';
}

static int present_in_table(unsigned index, unsigned slot, const struct process *process)
{
	uint64_t *died = &shared->device[index].process[slot].died_ns;
	if (process->flags & STAYS)
		return 1;
	if (alive(process->pid))
		return 1;
	uint64_t none = 0, now = now_ns(CLOCK_MONOTONIC);
	__atomic_compare_exchange_n(died, &none, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	return now - __atomic_load_n(died, __ATOMIC_ACQUIRE) < process->linger_ms * 1000000;
}

/* The first look at a dead process leaves a mark whose time starts its lingering. */
static int present_in_folder(const char *path, uint32_t pid, uint64_t linger_ms)
{
	char mark[PATH + 48];
	struct stat at;
	if (alive(pid))
		return 1;
	snprintf(mark, sizeof mark, "%s.died", path);
	int made = open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (made >= 0)
		close(made);
	if (stat(mark, &at) != 0)
		return 0;
	uint64_t died = (uint64_t)at.st_mtim.tv_sec * 1000000000ull + (uint64_t)at.st_mtim.tv_nsec;
	uint64_t now = now_ns(CLOCK_REALTIME);
	return (now > died ? now - died : 0) < linger_ms * 1000000;
}

static int from_folder(unsigned index, struct process *out, int count)
{
	char name[PATH + 16], path[PATH + 32];
	snprintf(name, sizeof name, "%s/%u", folder, index);
	DIR *open_folder = opendir(name);
	if (!open_folder)
		return count;
	struct dirent *entry;
	while (count < LISTED && (entry = readdir(open_folder))) {
		char *end;
		unsigned long pid = strtoul(entry->d_name, &end, 10);
		if (!isdigit((unsigned char)entry->d_name[0]) || *end)
			continue;
		unsigned long long bytes, linger = 0;
		snprintf(path, sizeof path, "%s/%lu", name, pid);
		FILE *file = fopen(path, "r");
		if (!file)
			continue;
		int fields = fscanf(file, "%llu %llu", &bytes, &linger);
		fclose(file);
		if (fields >= 1 && present_in_folder(path, (uint32_t)pid, linger))
			out[count++] = (struct process){ (uint32_t)pid, COMPUTE, bytes, linger, 0 };
	}
	closedir(open_folder);
	return count;
}

static int gather(unsigned index, const struct device *device, struct process *out)
{
	int count = 0;
	for (unsigned slot = 0; slot < PROCESSES; slot++) {
		const struct process *process = &device->process[slot];
		if (process->pid && present_in_table(index, slot, process))
			out[count++] = *process;
	}
	return from_folder(index, out, count);
}

static uint64_t used(void *handle, const struct device *device)
{
	struct process listed[LISTED];
	uint64_t sum = device->base;
	int count = gather((unsigned)(uintptr_t)handle - 1, device, listed);
	for (int i = 0; i < count; i++)
		sum += listed[i].bytes;
	uint64_t room = device->total - device->reserved;
	return sum < room ? sum : room;
}

EXPORT int nvmlInitWithFlags(unsigned flags)
{
	(void)flags;
	if (shared) {
		users++;
		return OK;
	}
	const char *path = getenv("FAKE_NVML");
	int file = path && strlen(path) + 3 < PATH ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct stat size;
	if (file < 0)
		return DRIVER_NOT_LOADED;
	void *mapped = MAP_FAILED;
	if (fstat(file, &size) == 0 && size.st_size == (off_t)sizeof(struct state))
		mapped = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (mapped == MAP_FAILED)
		return UNKNOWN;
	shared = mapped;
	snprintf(folder, sizeof folder, "%s.d", path);
	int error = shared->magic == MAGIC ? enter("nvmlInitWithFlags") : UNKNOWN;
	if (error != OK) {
		munmap(shared, sizeof(struct state));
		shared = NULL;
		return error;
	}
	users = 1;
	return OK;
}

EXPORT int nvmlShutdown(void)
{
	if (!shared)
		return UNINITIALIZED;
	if (--users == 0) {
		munmap(shared, sizeof(struct state));
		shared = NULL;
	}
	return OK;
}

EXPORT const char *nvmlErrorString(int code)
{
	static char text[64];
	snprintf(text, sizeof text, "NVML error %d", code);
	return text;
}

static int give(char *to, unsigned length, const char *text)
{
	if (strlen(text) >= length)
		return INSUFFICIENT_SIZE;
	strcpy(to, text);
	return OK;
}

EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned length)
{
	int error = enter("nvmlSystemGetDriverVersion");
	return error ? error : give(text, length, shared->driver);
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	int error = enter("nvmlSystemGetCudaDriverVersion_v2");
	if (!error)
		*version = (int)shared->cuda;
	return error;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count)
{
	int error = enter("nvmlDeviceGetCount_v2");
	if (!error)
		*count = shared->devices;
	return error;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
	struct device device;
	*handle = (void *)(uintptr_t)(index + 1);
	return enter_device("nvmlDeviceGetHandleByIndex_v2", *handle, &device);
}

/* Every call below is about one device: `device` is its state now, or the call returns an error. */
#define DEVICE_CALL(name, ...)                                          \
	EXPORT int name(void *handle, __VA_ARGS__)                      \
	{                                                               \
		struct device device;                                   \
		int error = enter_device(#name, handle, &device);       \
		if (error)                                              \
			return error;
#define END return OK; }

DEVICE_CALL(nvmlDeviceGetName, char *text, unsigned length)
	return give(text, length, device.name);
END

DEVICE_CALL(nvmlDeviceGetUUID, char *text, unsigned length)
	return give(text, length, device.uuid);
END

struct pci {
	char legacy[16];
	unsigned domain, bus, device, id, subsystem;
	char name[32];
};

DEVICE_CALL(nvmlDeviceGetPciInfo_v3, struct pci *pci)
	memset(pci, 0, sizeof *pci);
	return give(pci->name, sizeof pci->name, device.bus);
END

struct memory {
	uint64_t total, free, used;
};

DEVICE_CALL(nvmlDeviceGetMemoryInfo, struct memory *memory)
	memory->total = device.total;
	memory->used = device.reserved + used(handle, &device);
	memory->free = device.total - memory->used;
END

struct memory_v2 {
	unsigned version;
	uint64_t total, reserved, free, used;
};

DEVICE_CALL(nvmlDeviceGetMemoryInfo_v2, struct memory_v2 *memory)
	if (memory->version != (sizeof *memory | 2u << 24))
		return VERSION_MISMATCH;
	memory->total = device.total;
	memory->reserved = device.reserved;
	memory->used = used(handle, &device);
	memory->free = device.total - device.reserved - memory->used;
END

struct listed {
	unsigned pid;
	uint64_t bytes;
	unsigned gpu_instance, compute_instance;
};

static int list(void *handle, const struct device *device, unsigned kind, unsigned *count,
		struct listed *out)
{
	struct process found[LISTED];
	int all = gather((unsigned)(uintptr_t)handle - 1, device, found);
	unsigned kept = 0, room = *count;
	for (int i = 0; i < all; i++)
		if (found[i].flags & kind)
			found[kept++] = found[i];
	*count = kept;
	if (kept > room)
		return INSUFFICIENT_SIZE;
	for (unsigned i = 0; i < kept; i++) {
		uint64_t bytes = found[i].flags & HIDDEN ? NOT_AVAILABLE : found[i].bytes;
		out[i] = (struct listed){ found[i].pid, bytes, UINT32_MAX, UINT32_MAX };
	}
	return OK;
}

DEVICE_CALL(nvmlDeviceGetComputeRunningProcesses_v3, unsigned *count, struct listed *out)
	return list(handle, &device, COMPUTE, count, out);
END

DEVICE_CALL(nvmlDeviceGetComputeRunningProcesses_v2, unsigned *count, struct listed *out)
	return list(handle, &device, COMPUTE, count, out);
END

DEVICE_CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, unsigned *count, struct listed *out)
	return list(handle, &device, GRAPHICS, count, out);
END

DEVICE_CALL(nvmlDeviceGetGraphicsRunningProcesses_v2, unsigned *count, struct listed *out)
	return list(handle, &device, GRAPHICS, count, out);
END

struct utilisation {
	unsigned gpu, memory;
};

DEVICE_CALL(nvmlDeviceGetUtilizationRates, struct utilisation *rates)
	*rates = (struct utilisation){ device.busy, device.memory_busy };
END

DEVICE_CALL(nvmlDeviceGetPowerUsage, unsigned *milliwatts)
	*milliwatts = device.power_mw;
END

DEVICE_CALL(nvmlDeviceGetEnforcedPowerLimit, unsigned *milliwatts)
	*milliwatts = device.limit_mw;
END

DEVICE_CALL(nvmlDeviceGetTotalEnergyConsumption, unsigned long long *millijoules)
	*millijoules = device.energy_mj;
	if (device.energy_since_ns) {
		double seconds = (double)(now_ns(CLOCK_MONOTONIC) - device.energy_since_ns) / 1e9;
		*millijoules += (unsigned long long)(device.power_mw * seconds);
	}
END

DEVICE_CALL(nvmlDeviceGetTemperature, unsigned sensor, unsigned *celsius)
	if (sensor != 0)
		return NOT_SUPPORTED;
	*celsius = device.celsius;
END

DEVICE_CALL(nvmlDeviceGetMigMode, unsigned *current, unsigned *pending)
	*current = *pending = device.mig;
END
