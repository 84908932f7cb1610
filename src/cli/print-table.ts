/** Prints rows as aligned columns with headings. A value that is null or undefined is printed as an empty text. */
export function printTable(headings: readonly string[], rows: readonly (readonly unknown[])[]): void {
  const lines = [headings, ...rows].map((row) => row.map((value) => String(value ?? '')))
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
