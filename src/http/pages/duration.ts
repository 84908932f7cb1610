const units = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
] as const

/** Formats a duration for people: 12 ms, 3.4 s, 5 min 10 s, 2 d 3 h. assets/job.js does the same. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 0) return `−${duration(-seconds)}`
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`
  const index = units.findIndex(([size]) => seconds >= size)
  const [size, unit] = units[index] as (typeof units)[number]
  const [smaller, smallerUnit] = units[index + 1] ?? [1, 's']
  const whole = Math.floor(seconds / size)
  const rest = Math.floor((seconds - whole * size) / smaller)
  return rest > 0 ? `${whole} ${unit} ${rest} ${smallerUnit}` : `${whole} ${unit}`
}
