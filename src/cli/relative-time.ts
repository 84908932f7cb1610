const units = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'm'],
  [1, 's'],
] as const

/** A duration of less than two of a unit is shown in the next smaller unit, for example `90m`. */
const minUnits = 2

/** Formats a duration with one unit, rounded down, for example `45s`, `90m` or `3d`. */
export function formatDuration(seconds: number): string {
  const [length, unit] = units.find(([length]) => seconds >= minUnits * length) ?? [1, 's']
  return `${Math.floor(seconds / length)}${unit}`
}

/** Formats a time relative to now, for example `5m ago` or `in 3h`. */
export function formatRelative(time: Date, now: Date): string {
  const seconds = (now.getTime() - time.getTime()) / 1000
  if (Math.abs(seconds) < 1) return 'now'
  return seconds < 0 ? `in ${formatDuration(-seconds)}` : `${formatDuration(seconds)} ago`
}
