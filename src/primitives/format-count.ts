/** Formats a number with thousands separators. */
export const formatNumber = (value: number): string => Math.round(value).toLocaleString('en-US')

/** Formats a number with its noun. */
export const formatCount = (count: number, noun: string): string =>
  `${formatNumber(count)} ${noun}${count === 1 ? '' : 's'}`
