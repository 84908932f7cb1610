/**
 * The time in milliseconds, by a clock that all processes of the machine share and nobody sets: CLOCK_MONOTONIC on Linux.
 */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6
