/* A thread whose name is an attack on terminals and pages. */
#include "truth.h"
#include <sys/prctl.h>

int main(void)
{
	prctl(PR_SET_NAME, "<script>\x1b[2J\xff");
	sleep_ms(30);
	finish();
}
