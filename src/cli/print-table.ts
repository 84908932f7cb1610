import { printable } from '../primitives/printable.ts'

/** Prints a line, without what could control the terminal. */
export const printLine = (text: string): void => console.log(printable(text))

/** Prints rows as aligned columns with headings. A value that is null or undefined is printed as an empty text. */
export function printTable(headings: readonly string[], rows: readonly (readonly unknown[])[]): void {
  const lines = [headings, ...rows].map((row) => row.map((value) => printable(String(value ?? ''))))
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => (line[column] as string).length)))
  for (const line of lines) {
    console.log(
      line
        .map((text, column) => text.padEnd(widths[column] as number))
        .join('  ')
        .trimEnd(),
    )
  }
}
