/**
 * Returns the value of a decimal number without its sign as `<digits>e<exponent>`. Two numbers have the same value if
 * this text is the same. The loop keeps this linear. `/0+$/` would need quadratic time.
 */
export function decimalOf(literal: string): string {
  const [, whole = '', fraction = '', exponent = '0'] = literal.match(/^-?(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i) ?? []
  const digits = whole + fraction
  let start = 0
  let end = digits.length
  while (digits[start] === '0') start += 1
  while (end > start && digits[end - 1] === '0') end -= 1
  if (start === end) return '0'
  return `${digits.slice(start, end)}e${Number(exponent) - fraction.length + digits.length - end}`
}
