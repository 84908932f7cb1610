const secondsPerUnit: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** Reads a duration like `30m`, `24h` or `7d`. Returns seconds, or undefined if the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const [, amount, unit = ''] = text.match(/^(\d+)([smhd])$/) ?? []
  return amount === undefined ? undefined : Number(amount) * (secondsPerUnit[unit] as number)
}
