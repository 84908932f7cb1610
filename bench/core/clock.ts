/** Returns milliseconds of a monotonic clock. All processes of the machine share this clock (on Linux). */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6
