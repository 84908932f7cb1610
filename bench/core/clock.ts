/** Returns milliseconds of CLOCK_MONOTONIC (on Linux), which all processes of the machine share and nothing adjusts. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6
