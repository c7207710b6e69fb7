/* All that the test's images hold: a program that waits, and with ports as arguments a server that tells each
 * caller as whom it sees them. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int number) { _exit(number != SIGTERM); }

static void serve(int port)
{
    struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_port = htons(port) }, peer;
    int listening = socket(AF_INET6, SOCK_STREAM, 0), yes = 1;
    char text[INET6_ADDRSTRLEN];
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listening, (struct sockaddr *)&own, sizeof own) || listen(listening, 16))
        _exit(1);
    for (;;) {
        socklen_t length = sizeof peer;
        int connection = accept(listening, (struct sockaddr *)&peer, &length);
        inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text);
        if (write(connection, text, strlen(text)) < 0)
            continue;
        close(connection);
    }
}

int main(int count, char **arguments)
{
    signal(SIGTERM, end); /* the first process of a namespace ends by no signal that it does not take */
    signal(SIGINT, end);
    signal(SIGPIPE, SIG_IGN);
    if (count > 1)
        serve(atoi(arguments[1]));
    for (;;)
        pause();
}
