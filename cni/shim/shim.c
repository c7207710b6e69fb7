/* The CNI plugin that a container runtime executes: it hands the request to the node's agent and returns the
 * agent's answer.
 *
 * Without a C library this is an executable of a few kilobytes that starts in a tenth of a millisecond; a Go or
 * Python program needs 2 to 50. Everything that has to be decided is decided by the agent. What is left for here:
 *
 *   - VERSION, and the text for someone who calls it by hand, need no agent.
 *   - All CNI_ variables go to the agent in one message, with stdin, stdout, stderr and, if it can be opened, the
 *     pod's network namespace as descriptors. The agent answers in one message too: the exit code in a byte, and
 *     what there is to print. So there is one answer or none, whenever the agent dies.
 *   - Without an agent ADD and CHECK fail with code 11 (try again later) and STATUS with 50. A DEL is put into a
 *     directory beside the socket, where the agent finds it when it starts, and succeeds: a pod that is to go must
 *     not hang on an agent that is being replaced.
 *
 * The path of the socket is written into the executable when it is installed (cni/install.py). shim.py does the same
 * where there is no compiler; tests run against both.
 *
 * Source: CNI specification 1.1.0; unix(7), cmsg(3), syscall(2).
 */

typedef unsigned long size;

#define LATEST "1.1.0"
#define SUPPORTED "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define ABOUT "kubenet CNI plugin, CNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"

/* The installer finds this by its text and writes the path over all of it, filled up with zero bytes. Not static and
 * not const, so that the compiler cannot make up its mind about the value. */
#define PATH_BYTES 108 /* sun_path of linux/un.h */
char socket_path[PATH_BYTES] = "@KUBENET-CNI-SOCKET-PATH@";

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, SENDMSG = 46, CONNECT = 42, SOCKET = 41, SETSOCKOPT = 54, FCNTL = 72, GETPID = 39,
       CLOCK_GETTIME = 228, EXIT_GROUP = 231, OPENAT = 257, UNLINKAT = 263, RENAMEAT = 264, PPOLL = 271 };
static inline long call(long n, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, SENDMSG = 211, CONNECT = 203, SOCKET = 198, SETSOCKOPT = 208, FCNTL = 25, GETPID = 172,
       CLOCK_GETTIME = 113, EXIT_GROUP = 94, OPENAT = 56, UNLINKAT = 35, RENAMEAT = 38, PPOLL = 73 };
static inline long call(long n, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x0, sp\n bl run\n");
#else
#error "no system calls are known for this machine: install the Python shim"
#endif

enum { AT_FDCWD = -100, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_EXCL = 0200, O_CLOEXEC = 02000000 };
enum { AF_UNIX = 1, SOCK_SEQPACKET = 5, SOCK_CLOEXEC = 02000000, SOL_SOCKET = 1, SCM_RIGHTS = 1 };
enum { MSG_NOSIGNAL = 0x4000, SO_RCVTIMEO = 20, SO_SNDTIMEO = 21, F_GETFD = 1, POLLIN = 1 };

#define ANSWER_WITHIN_S 90 /* longer than the agent gives to anything */
#define STDIN_WITHIN_S 5
#define VARIABLES 32 /* the protocol has seven; more than these are not passed on */

struct time { long s, ns; };
struct slice { const char *start; size length; };
struct message { void *name; unsigned name_length; struct slice *parts; size part_count; void *control;
                 size control_length; int flags; };
struct descriptors { size length; int level, type; int fd[4]; };
struct pollfd { int fd; short wanted, seen; };

static size length_of(const char *text)
{
    size n = 0;
    while (text[n])
        n++;
    return n;
}

static int starts_with(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static char *append(char *to, const char *text, size length)
{
    while (length--)
        *to++ = *text++;
    return to;
}

static char *append_text(char *to, const char *text) { return append(to, text, length_of(text)); }

static char *append_number(char *to, unsigned long number)
{
    char digits[20];
    int n = 0;
    do
        digits[n++] = '0' + number % 10;
    while (number /= 10);
    while (n)
        *to++ = digits[--n];
    return to;
}

static void leave(int code)
{
    for (;;)
        call(EXIT_GROUP, code, 0, 0, 0, 0);
}

static void say(int fd, const char *text, size length)
{
    while (length) {
        long n = call(WRITE, fd, (long)text, length, 0, 0);
        if (n <= 0)
            return;
        text += n;
        length -= n;
    }
}

/* Return the value of a variable, or an empty string. */
static const char *variable(char **environment, const char *name)
{
    for (; *environment; environment++)
        if (starts_with(*environment, name))
            return *environment + length_of(name);
    return "";
}

/* Return the bytes on stdin, up to the size of the buffer; nobody has to send an end of file in time. */
static size read_stdin(char *buffer, size room)
{
    size length = 0;
    struct pollfd readable = { 0, POLLIN, 0 };
    struct time patience = { STDIN_WITHIN_S, 0 };
    while (length < room && call(PPOLL, (long)&readable, 1, (long)&patience, 0, 0) > 0) {
        long n = call(READ, 0, (long)buffer + length, room - length, 0, 0);
        if (n <= 0)
            break;
        length += n;
    }
    return length;
}

static size skip_space(const char *text, size at, size length)
{
    while (at < length && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'))
        at++;
    return at;
}

/* Return the version in quotes that starts at a place of the text; else the latest that we know. */
static struct slice version_at(const char *text, size at, size length)
{
    struct slice latest = { LATEST, sizeof LATEST - 1 }, found = { text + at + 1, 0 };
    if (at >= length || text[at] != '"')
        return latest;
    while (++at < length && ((text[at] >= '0' && text[at] <= '9') || text[at] == '.'))
        found.length++;
    return at < length && text[at] == '"' && found.length && found.length <= 16 ? found : latest;
}

/* Return the cniVersion of the configuration, which is a member of the outermost object; else the latest. */
static struct slice find_version(const char *text, size length)
{
    static const char key[] = "\"cniVersion\"";
    int depth = 0, in_string = 0;
    for (size i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            i += c == '\\'; /* what is escaped ends no string */
            in_string = c != '"';
            continue;
        }
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        in_string = c == '"';
        if (depth == 1 && length - i >= sizeof key && starts_with(text + i, key)) {
            size colon = skip_space(text, i + sizeof key - 1, length);
            if (colon < length && text[colon] == ':') /* else it is a value that looks like the key */
                return version_at(text, skip_space(text, colon + 1, length), length);
        }
    }
    return version_at("", 0, 0);
}

static char buffer[131072], answer[1024]; /* ANSWER_BYTES of cni/server.py */

static void tell_versions(void)
{
    struct slice version = find_version(buffer, read_stdin(buffer, sizeof buffer));
    char *end = append_text(answer, "{\"cniVersion\":\"");
    end = append(end, version.start, version.length);
    end = append_text(end, "\",\"supportedVersions\":[" SUPPORTED "]}\n");
    say(1, answer, end - answer);
    leave(0);
}

static void fail(int code, const char *why)
{
    struct slice version = find_version(buffer, read_stdin(buffer, sizeof buffer));
    char *end = append_text(answer, "{\"cniVersion\":\"");
    end = append(end, version.start, version.length);
    end = append_number(append_text(end, "\",\"code\":"), code);
    end = append_text(append_text(end, ",\"msg\":\""), why);
    end = append_text(append_text(end, "\",\"details\":\""), socket_path);
    end = append_text(end, "\"}\n");
    say(1, answer, end - answer);
    leave(1);
}

/* Write the request where the agent will look when it starts. Nothing is synced: a power failure ends the pod too. */
static int put_off(struct slice *parts, size count)
{
    static char draft[PATH_BYTES + 80], name[PATH_BYTES + 80];
    struct time now;
    char *end = append_text(name, socket_path);
    while (end > name && end[-1] != '/')
        end--;
    end = append_text(end, "del.d/");
    call(CLOCK_GETTIME, 0, (long)&now, 0, 0, 0);
    end = append_number(end, now.s);
    *end++ = '.';
    end = append_number(end, now.ns);
    *end++ = '.';
    end = append_number(end, call(GETPID, 0, 0, 0, 0, 0));
    *end = 0;
    *append_text(append(draft, name, end - name), ".tmp") = 0;
    long fd = call(OPENAT, AT_FDCWD, (long)draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600, 0);
    if (fd < 0)
        return 0;
    for (size i = 0; i < count; i++)
        if (call(WRITE, fd, (long)parts[i].start, parts[i].length, 0, 0) != (long)parts[i].length) {
            call(UNLINKAT, AT_FDCWD, (long)draft, 0, 0, 0);
            return 0;
        }
    return call(RENAMEAT, AT_FDCWD, (long)draft, AT_FDCWD, (long)name, 0) == 0;
}

/* Print what the agent says and return its exit code; -1 if there is no agent or it ended before it answered. */
static int ask_agent(struct slice *parts, size count, const char *netns)
{
    static struct { unsigned short family; char path[PATH_BYTES]; } address = { AF_UNIX, "" };
    struct time patience = { ANSWER_WITHIN_S, 0 };
    struct descriptors rights = { 0, SOL_SOCKET, SCM_RIGHTS, { 0, 1, 2, -1 } };
    struct message message = { 0, 0, parts, count, &rights, 0, 0 };
    append_text(address.path, socket_path);
    long fd = call(SOCKET, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0, 0);
    call(SETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&patience, sizeof patience);
    call(SETSOCKOPT, fd, SOL_SOCKET, SO_SNDTIMEO, (long)&patience, sizeof patience);
    if (call(CONNECT, fd, (long)&address, sizeof address.family + length_of(address.path) + 1, 0, 0) < 0)
        return -1;
    rights.fd[3] = *netns ? call(OPENAT, AT_FDCWD, (long)netns, O_CLOEXEC, 0, 0) : -1;
    rights.length = 16 + (rights.fd[3] < 0 ? 3 : 4) * sizeof(int);
    message.control_length = (rights.length + 7) & ~7UL;
    if (call(SENDMSG, fd, (long)&message, MSG_NOSIGNAL, 0, 0) < 0)
        return -1;
    long n = call(READ, fd, (long)buffer, sizeof buffer, 0, 0);
    if (n < 1)
        return -1;
    say(1, buffer + 1, n - 1);
    return (unsigned char)buffer[0];
}

__attribute__((used)) void run(long *stack)
{
    static struct slice parts[VARIABLES];
    char **environment = (char **)stack + stack[0] + 2;
    const char *command = variable(environment, "CNI_COMMAND=");
    size count = 0;
    for (int fd = 0; fd < 3; fd++) /* a stream that the caller has closed must not become our socket */
        if (call(FCNTL, fd, F_GETFD, 0, 0, 0) < 0)
            call(OPENAT, AT_FDCWD, (long)"/dev/null", O_RDWR, 0, 0);
    if (!*command) {
        say(2, ABOUT, sizeof ABOUT - 1);
        leave(0);
    }
    if (starts_with(command, "VERSION") && !command[7])
        tell_versions();
    for (char **entry = environment; *entry && count < VARIABLES; entry++)
        if (starts_with(*entry, "CNI_")) {
            parts[count].start = *entry;
            parts[count++].length = length_of(*entry) + 1;
        }
    int code = ask_agent(parts, count, variable(environment, "CNI_NETNS="));
    if (code >= 0)
        leave(code);
    if (starts_with(command, "STATUS") && !command[6])
        fail(50, "the kubenet agent of this node does not answer");
    if (starts_with(command, "DEL") && !command[3] && put_off(parts, count))
        leave(0);
    fail(11, "the kubenet agent of this node does not answer");
}
