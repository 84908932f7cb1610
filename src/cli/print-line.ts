import { printable } from '../primitives/printable.ts'

/** Prints a line, without what could control the terminal. */
export const printLine = (text: string): void => console.log(printable(text))
