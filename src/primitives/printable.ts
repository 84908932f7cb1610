import { stripVTControlCharacters } from 'node:util'

/**
 * Makes a text safe for a line of a terminal. Texts of clients and handlers must not move the cursor, change what was
 * printed before, or begin a line of their own.
 */
export const printable = (text: string): string =>
  stripVTControlCharacters(text).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, ' ')
