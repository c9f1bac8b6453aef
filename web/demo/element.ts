/** Builds elements. Data only ever enters a page as text nodes or attribute values, never as markup. */

type Child = Node | string | null | undefined | false;

/** An element with attributes (`false`, null and undefined leave one out) and children. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string | number | boolean | null | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const built = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    built.setAttribute(name, value === true ? '' : String(value));
  }
  built.append(...children.filter((child): child is Node | string => child != null && child !== false));
  return built;
}
